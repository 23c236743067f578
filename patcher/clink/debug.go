package clink

import (
	"bytes"
	"debug/dwarf"
	"debug/elf"
	"fmt"
	"slices"
	"strings"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/loaded"
	"github.com/darn-dev/darn/patcher/module"
)

// moduleDWARF returns the module's debugging information, nil if it has none.
func moduleDWARF(m *module.Module) (d *dwarf.Data) {
	defer func() {
		if recover() != nil { // debug/elf may panic on a file that was made to
			d = nil
		}
	}()
	f, err := elf.NewFile(bytes.NewReader(m.Shared.File))
	if err != nil {
		return nil
	}
	d, err = f.DWARF()
	if err != nil {
		return nil
	}
	return d
}

// source returns file:line of a function of the module, "" if that is not known.
func (b *binder) source(x *module.Symbol) string {
	if b.moduleLines == nil {
		b.moduleLines = lines(moduleDWARF(b.m))
	}
	return b.moduleLines[x.Addr]
}

// lines returns where functions are declared, by their addresses.
func lines(d *dwarf.Data) map[uint64]string {
	found := map[uint64]string{}
	if d == nil {
		return found
	}
	var files []*dwarf.LineFile
	r := d.Reader()
	for {
		e, err := r.Next()
		if e == nil || err != nil {
			return found
		}
		switch e.Tag {
		case dwarf.TagCompileUnit:
			files = nil
			if l, err := d.LineReader(e); err == nil && l != nil {
				files = l.Files()
			}
		case dwarf.TagSubprogram:
			low, ok1 := e.Val(dwarf.AttrLowpc).(uint64)
			if _, has := e.Val(dwarf.AttrDeclLine).(int64); !has {
				e = declaration(d, e)
			}
			file, ok2 := e.Val(dwarf.AttrDeclFile).(int64)
			line, ok3 := e.Val(dwarf.AttrDeclLine).(int64)
			if ok1 && ok2 && ok3 && file >= 0 && int(file) < len(files) && files[file] != nil {
				found[low] = fmt.Sprintf("%s:%d", files[file].Name, line)
			}
		}
	}
}

// linkName returns the name that an entry's symbol has.
func linkName(e *dwarf.Entry) string {
	if name, ok := e.Val(dwarf.AttrLinkageName).(string); ok {
		return name
	}
	name, _ := e.Val(dwarf.AttrName).(string)
	return name
}

// inlined warns of copies of replaced functions that the compiler has put into
// their callers.
func (b *binder) inlined() {
	replaced := map[string]bool{}
	for _, f := range b.found {
		if f.old.Object.Program {
			replaced[f.old.Name] = true
		}
	}
	d := b.set.Objects[0].DWARF()
	if d == nil || len(replaced) == 0 {
		return
	}
	abstract := map[dwarf.Offset]string{} // of those that may be inlined
	names := map[dwarf.Offset]string{}    // of all functions
	callers := map[string][]string{}
	var function string
	copies := []struct {
		of dwarf.Offset
		in string
	}{}
	r := d.Reader()
	for {
		e, err := r.Next()
		if e == nil || err != nil {
			break
		}
		name := linkName(e)
		switch e.Tag {
		case dwarf.TagSubprogram:
			if replaced[name] {
				abstract[e.Offset] = name
			}
			function, names[e.Offset] = name, name
			if origin, ok := e.Val(dwarf.AttrAbstractOrigin).(dwarf.Offset); ok && name == "" {
				function = names[origin]
			}
		case dwarf.TagInlinedSubroutine:
			if origin, ok := e.Val(dwarf.AttrAbstractOrigin).(dwarf.Offset); ok {
				copies = append(copies, struct {
					of dwarf.Offset
					in string
				}{origin, function})
			}
		}
	}
	for _, c := range copies {
		if name := abstract[c.of]; name != "" && c.in != name && !replaced[c.in] && !slices.Contains(callers[name], c.in) {
			callers[name] = append(callers[name], c.in)
		}
	}
	for _, f := range b.found {
		in := slices.DeleteFunc(callers[f.old.Name], func(s string) bool { return s == "" })
		if len(callers[f.old.Name]) == 0 {
			continue
		}
		b.warn(finding.InlinedCopy, f.old.Name,
			fmt.Sprintf("the compiler has put copies of it into its callers, which are not replaced: %s", strings.Join(in, ", ")),
			"replace those too: what they call is in their own source")
	}
}

// variables warns of variables of the module that the program has too, and that
// are not the same: a global one is, but for code that reaches it without a
// relocation, as with hidden visibility.
func (b *binder) variables() {
	bound := map[int]bool{}
	for i := range b.m.Relocs {
		bound[b.m.Relocs[i].Symbol] = true
	}
	for i := range b.m.Symbols {
		x := &b.m.Symbols[i]
		if bound[i] || x.Type != elf.STT_OBJECT || x.Undefined || strings.HasPrefix(x.Name, "_") || strings.ContainsAny(x.Name, ".") {
			continue
		}
		if len(b.set.Objects[0].Named(x.Name)) > 0 {
			b.warn(finding.GlobalChanged, x.Name, "the module has a variable of this name for itself (static, or of hidden visibility), and the program has one too: they are not the same",
				"declare it extern in the module to use the program's")
		}
	}
}

// declared refuses what the module declares otherwise than it is in the program:
// variables of another size, and functions and variables taken for each other.
func (b *binder) declared() error {
	d := moduleDWARF(b.m)
	if d == nil {
		return nil
	}
	wanted := map[string]*loaded.Symbol{} // what is bound
	for i, t := range b.bound {
		if t.symbol != nil && b.m.Symbols[i].Undefined {
			wanted[b.m.Symbols[i].Name] = t.symbol
		}
	}
	r := d.Reader()
	for len(wanted) > 0 {
		e, err := r.Next()
		if e == nil || err != nil {
			break
		}
		if external, _ := e.Val(dwarf.AttrExternal).(bool); !external {
			continue
		}
		name := linkName(e)
		s, ok := wanted[name]
		if !ok || e.Tag != dwarf.TagVariable && e.Tag != dwarf.TagSubprogram {
			continue
		}
		variable := s.Type == elf.STT_OBJECT || s.Type == elf.STT_TLS
		function := s.Type == elf.STT_FUNC || s.Type == elf.STT_GNU_IFUNC
		if e.Tag == dwarf.TagVariable && function || e.Tag == dwarf.TagSubprogram && variable {
			kinds := [2]string{"function", "variable"}
			if variable {
				kinds = [2]string{"variable", "function"}
			}
			return refuse(finding.SymbolUnresolved, name,
				fmt.Sprintf("the module takes it for a %s, and in the program it is a %s", kinds[1], kinds[0]),
				"declare it as it is in the program's source")
		}
		if !variable || s.Size == 0 {
			continue
		}
		offset, ok := e.Val(dwarf.AttrType).(dwarf.Offset)
		if !ok {
			continue
		}
		typ, err := d.Type(offset)
		if err != nil {
			continue
		}
		if n := typ.Size(); n > 0 && uint64(n) != s.Size {
			return refuse(finding.GlobalChanged, name,
				fmt.Sprintf("the module declares the variable as %v of %d bytes, and in the program it has %d", typ, n, s.Size),
				"declare it as it is in the program's source")
		}
	}
	return nil
}
