package clink

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"path/filepath"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/loaded"
	"github.com/darn-dev/darn/patcher/module"
)

// bind finds what the module's symbol number i is bound to.
func (b *binder) bind(i int) (target, error) {
	if t, ok := b.bound[i]; ok {
		return t, nil
	}
	x := &b.m.Symbols[i]
	t, err := b.bindSymbol(x)
	if err == nil {
		b.bound[i] = t
	}
	return t, err
}

// bindSymbol binds what is the program's to it: also variables that the module
// defines and that the program has too, as the dynamic linker would, so that both
// use the same one; and references to replaced functions, so that they go where
// all callers go, to the uppermost patch.
func (b *binder) bindSymbol(x *module.Symbol) (target, error) {
	if !x.Undefined {
		own := target{addr: b.base + x.Addr}
		switch x.Type {
		case elf.STT_FUNC:
			for _, f := range b.found {
				if f.new.Name == x.Name && f.new.Addr == x.Addr {
					return target{f.old.Addr, f.old}, nil
				}
			}
		case elf.STT_OBJECT:
			s, _, err := b.exported(x.Name, "")
			if err != nil || s == nil || s.Type != elf.STT_OBJECT {
				return own, err
			}
			if s.Size != x.Size && s.Size != 0 && x.Size != 0 {
				return own, refuse(finding.GlobalChanged, x.Name,
					fmt.Sprintf("the variable has %d bytes in the module, and %d in the program", x.Size, s.Size),
					"make a new variable under another name")
			}
			return target{s.Addr, s}, nil
		}
		return own, nil
	}
	s, err := b.lookup(x)
	if err != nil || s == nil {
		return target{}, err
	}
	t := target{s.Addr, s}
	if s.Type == elf.STT_GNU_IFUNC {
		t.addr, err = b.indirect(s)
	}
	return t, err
}

// lookup finds what the program has for an undefined symbol. nil is for one that
// need not be there.
func (b *binder) lookup(x *module.Symbol) (*loaded.Symbol, error) {
	for _, c := range b.m.Manifest.Bindings {
		if c.Symbol != x.Name {
			continue
		}
		if c.Offset != 0 {
			return b.placed(c)
		}
		if file, name := Split(c.Target); file == "" {
			if s, _, err := b.exported(name, ""); s != nil || err != nil {
				return s, err
			}
		}
	}
	s, other, err := b.exported(x.Name, x.Version)
	if s != nil || err != nil {
		return s, err
	}
	if other == nil {
		if s, err = b.private(x); s != nil || err != nil {
			return s, err
		}
	}
	switch {
	case x.Weak:
		return nil, nil
	case other != nil:
		return nil, refuse(finding.SymbolUnresolved, x.Name,
			fmt.Sprintf("the module needs its version %s, and %s has %s: the module was linked with another version of the library", x.Version, other.Object.Name(), other.Version),
			"build the module where the program runs, or with the same libraries")
	}
	return nil, refuse(finding.SymbolUnresolved, x.Name, "neither the program nor its libraries have it"+b.hint(x.Name),
		"define it in the module, or build the module for the program that runs")
}

// hint says more of a name that is not there.
func (b *binder) hint(name string) string {
	switch {
	case name == "__tls_get_addr":
		return ": compile the module with -ftls-model=initial-exec"
	case b.set.Objects[0].Stripped():
		return "; the program is stripped, so that only what it exports is known"
	}
	for _, o := range b.set.Objects {
		for _, s := range o.Symbols() {
			if len(s.Name) > len(name) && s.Name[:len(name)] == name && s.Name[len(name)] == '.' {
				return fmt.Sprintf(" but as %s, which the compiler made for single callers", s.Name)
			}
		}
	}
	return ""
}

// exported finds a symbol as the dynamic linker would, in the program also what
// that does not know but other files of the program would. other is one that has
// another version.
func (b *binder) exported(name, version string) (s, other *loaded.Symbol, err error) {
	for _, o := range b.set.Objects {
		for _, s := range o.Named(name) {
			switch {
			case s.Local, !o.Program && !s.Dynamic:
			case o.Program, s.Version == "", version == s.Version, version == "" && !s.Old:
				return s, nil, nil
			case other == nil || !s.Old:
				other = s
			}
		}
	}
	return nil, other, nil
}

// placed finds what a binding says is at a place in the program. It need not have
// a symbol, as the module is for this very build.
func (b *binder) placed(c module.Binding) (*loaded.Symbol, error) {
	program := b.set.Objects[0]
	file, name := Split(c.Target)
	for _, s := range program.Named(name) {
		if s.Type == elf.STT_TLS && s.Addr == c.Offset || s.Type != elf.STT_TLS && s.Addr-program.Bias == c.Offset {
			return s, nil
		}
	}
	if id := b.m.Manifest.Target.GNUBuildID; id != "" && id == program.BuildID && program.Stripped() {
		return &loaded.Symbol{Name: name, Addr: program.Bias + c.Offset, Type: elf.STT_OBJECT, Local: true, File: file, Object: program}, nil
	}
	return nil, refuse(finding.TextMismatch, c.Target, fmt.Sprintf("the program has it not at %#x, where the build has it that the module is for", c.Offset),
		"build the module for the program that runs")
}

// private finds what is static or hidden, in the program or else in a library.
func (b *binder) private(x *module.Symbol) (*loaded.Symbol, error) {
	file, name := "", x.Name
	for _, c := range b.m.Manifest.Bindings {
		if c.Symbol == x.Name {
			file, name = Split(c.Target)
		}
	}
	for _, o := range b.set.Objects {
		var found []*loaded.Symbol
		for _, s := range o.Named(name) {
			if file == "" || filepath.Base(s.File) == file {
				found = append(found, s)
			}
		}
		switch found = distinct(found); {
		case len(found) == 1:
			return found[0], nil
		case len(found) > 1:
			return nil, b.ambiguous(x.Name, found)
		}
	}
	return nil, nil
}

// indirect finds the implementation that the program uses of an indirect
// function: somebody has asked the resolver already.
func (b *binder) indirect(s *loaded.Symbol) (uint64, error) {
	if b.resolved == nil {
		b.resolved = make(map[uint64]uint64)
		byName := map[string]*loaded.Symbol{}
		for _, o := range b.set.Objects {
			for i := range o.Symbols() {
				if y := &o.Symbols()[i]; y.Type == elf.STT_GNU_IFUNC && !y.Old && byName[y.Name] == nil {
					byName[y.Name] = y
				}
			}
		}
		for _, o := range b.set.Objects {
			if o.Path == "[vdso]" {
				continue
			}
			for _, r := range o.Relocations() {
				resolver := uint64(0)
				switch r.Type {
				case elf.R_X86_64_IRELATIVE:
					resolver = o.Bias + r.Addend
				case elf.R_X86_64_JMP_SLOT, elf.R_X86_64_GLOB_DAT:
					if y := byName[r.Symbol]; y != nil {
						resolver = y.Addr
					}
				}
				if resolver == 0 || b.resolved[resolver] != 0 {
					continue
				}
				var word [8]byte
				if err := b.p.ReadMemory(word[:], r.Addr); err != nil {
					return 0, err
				}
				// A slot that was not used yet leads back into its own object.
				at := binary.LittleEndian.Uint64(word[:])
				if y := b.set.At(at); y != nil && (y != o || r.Type == elf.R_X86_64_IRELATIVE) && at != resolver {
					b.resolved[resolver] = at
				}
			}
		}
	}
	if at := b.resolved[s.Addr]; at != 0 {
		return at, nil
	}
	return 0, refuse(finding.SymbolUnresolved, s.Name,
		"it has several implementations (an indirect function), and nobody in the program has chosen one yet",
		"call it through another function of the program, or use one that does the same")
}
