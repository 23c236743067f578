package clink

import (
	"bytes"
	"debug/dwarf"
	"debug/elf"
	"fmt"
	"slices"
	"strings"

	"github.com/darn-dev/darn/patcher/finding"
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
		name, _ := e.Val(dwarf.AttrLinkageName).(string)
		if name == "" {
			name, _ = e.Val(dwarf.AttrName).(string)
		}
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

// variables looks at the variables of the module that the program has too, and at
// those that the module declares.
func (b *binder) variables() {
	for i := range b.m.Symbols {
		x := &b.m.Symbols[i]
		if !x.Local || x.Type != elf.STT_OBJECT || x.Undefined || strings.HasPrefix(x.Name, "_") || strings.ContainsAny(x.Name, ".") {
			continue
		}
		if len(b.set.Objects[0].Named(x.Name)) > 0 {
			b.warn(finding.GlobalChanged, x.Name, "the module has a static variable of this name for itself, and the program has one too: they are not the same",
				"declare it extern in the module to use the program's")
		}
	}
}

// declared refuses variables that the module declares with another size than the
// program's have.
func (b *binder) declared() error {
	d := moduleDWARF(b.m)
	if d == nil {
		return nil
	}
	wanted := map[string]uint64{} // sizes of those that are bound
	for i, t := range b.bound {
		if t.symbol != nil && b.m.Symbols[i].Undefined && (t.symbol.Type == elf.STT_OBJECT || t.symbol.Type == elf.STT_TLS) && t.symbol.Size > 0 {
			wanted[b.m.Symbols[i].Name] = t.symbol.Size
		}
	}
	r := d.Reader()
	for len(wanted) > 0 {
		e, err := r.Next()
		if e == nil || err != nil {
			break
		}
		name, _ := e.Val(dwarf.AttrName).(string)
		size, ok := wanted[name]
		if e.Tag != dwarf.TagVariable || !ok {
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
		if n := typ.Size(); n > 0 && uint64(n) != size {
			return refuse(finding.GlobalChanged, name,
				fmt.Sprintf("the module declares the variable as %v of %d bytes, and in the program it has %d", typ, n, size),
				"declare it as it is in the program's source")
		}
	}
	return nil
}
