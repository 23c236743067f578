package cbuild

import (
	"debug/elf"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/darn-dev/darn/patcher/build/cobject"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/loaded"
	"github.com/darn-dev/darn/patcher/module"
)

// program is the target's executable, and what the module refers to in it.
type program struct {
	*loaded.Object
	bindings []module.Binding
	names    map[uint64]string // of bindings, by address
}

// found is what of the program a section of a base object is.
type found struct {
	symbol  *loaded.Symbol
	matches bool
	why     string // it does not
	several []*loaded.Symbol
}

// candidates returns what the program's symbol table has under the name of an
// object's symbol.
func (p *program) candidates(o *cobject.Object, n int) []*loaded.Symbol {
	x := &o.Symbols[n]
	var all []*loaded.Symbol
	fits := func(s *loaded.Symbol) bool {
		return s.Type == x.Type || x.Type == elf.STT_NOTYPE
	}
	for _, s := range p.Named(x.Name) {
		if fits(s) {
			all = append(all, s)
		}
	}
	if len(all) == 0 && cobject.IsClone(x.Name) {
		// The compiler numbers its versions in each file.
		base, _, _ := strings.Cut(x.Name, ".")
		for i := range p.Symbols() {
			s := &p.Symbols()[i]
			if rest, ok := strings.CutPrefix(s.Name, base+"."); ok && rest != "" && fits(s) {
				all = append(all, s)
			}
		}
	}
	if x.Bind == elf.STB_LOCAL {
		var same []*loaded.Symbol
		for _, s := range all {
			if filepath.Base(s.File) == o.Source {
				same = append(same, s)
			}
		}
		if len(same) > 0 {
			all = same
		}
	}
	seen := map[uint64]bool{}
	return slices.DeleteFunc(all, func(s *loaded.Symbol) bool {
		was := seen[s.Addr]
		seen[s.Addr] = true
		return was
	})
}

// function finds a function of a base object in the program: of several the one
// whose code is the object's, and that code which is known refers to. learned is
// where sections are that code refers to.
func (p *program) function(o *cobject.Object, section int, learned map[int]uint64) *found {
	f := &found{}
	all := p.candidates(o, o.Main(section))
	if len(all) == 0 {
		return f
	}
	var where []map[int]uint64
	var same []*loaded.Symbol
	for _, s := range all {
		code, err := p.Code(s.Addr, s.Size)
		if err != nil {
			f.why = err.Error()
			continue
		}
		places, why := o.Match(section, code, s.Addr)
		if why != "" {
			f.why = why
			continue
		}
		same, where = append(same, s), append(where, places)
	}
	for i, s := range same {
		if len(same) > 1 && learned[section] == s.Addr {
			same, where = same[i:i+1], where[i:i+1]
			break
		}
	}
	switch {
	case len(same) == 1:
		f.symbol, f.matches = same[0], true
		maps.Copy(learned, where[0])
	case len(same) > 1:
		f.symbol, f.matches, f.several = same[0], true, same
	case len(all) == 1:
		f.symbol = all[0]
	default:
		f.symbol, f.several = all[0], all
	}
	return f
}

// variable finds a variable of a base object in the program, by its name or by
// where the code that was matched has it.
func (p *program) variable(o *cobject.Object, section int, learned uint64) *found {
	all := p.candidates(o, o.Main(section))
	if learned != 0 {
		for _, s := range all {
			if s.Addr == learned {
				return &found{symbol: s, matches: true}
			}
		}
		main := &o.Symbols[o.Main(section)]
		for i := range p.Symbols() {
			if s := &p.Symbols()[i]; s.Addr == learned && s.Type == main.Type {
				return &found{symbol: s, matches: true}
			}
		}
		if p.BuildID != "" && main.Type == elf.STT_OBJECT { // of a stripped program
			return &found{matches: true, symbol: &loaded.Symbol{Name: main.Name, Addr: learned, Size: main.Size, Type: main.Type, Local: true, File: o.Source, Object: p.Object}}
		}
	}
	switch len(all) {
	case 0:
		return &found{}
	case 1:
		return &found{symbol: all[0]}
	}
	return &found{symbol: all[0], several: all}
}

// external returns what the program has of a name that other files may know.
func (p *program) external(name string) *loaded.Symbol {
	var hidden []*loaded.Symbol
	for _, s := range p.Named(name) {
		if !s.Local {
			return s
		}
		if s.File == "" {
			hidden = append(hidden, s)
		}
	}
	if len(hidden) == 0 {
		hidden = p.Named(name)
	}
	if len(hidden) == 1 {
		return hidden[0]
	}
	return nil
}

// name returns the name by which the module refers to a symbol of the program.
// What is not known by its name alone gets a binding.
func (p *program) name(s *loaded.Symbol) string {
	if !s.Local && len(p.Named(s.Name)) <= 1 {
		return s.Name
	}
	key := s.Addr
	if s.Type == elf.STT_TLS { // it counts from elsewhere
		key |= 1 << 63
	}
	if name := p.names[key]; name != "" {
		return name
	}
	target := s.Name
	if s.File != "" {
		target = filepath.Base(s.File) + ":" + s.Name
	}
	name := target
	for n := 2; slices.ContainsFunc(p.bindings, func(b module.Binding) bool { return b.Symbol == name }); n++ {
		name = fmt.Sprintf("%s#%d", target, n)
	}
	if p.names == nil {
		p.names = map[uint64]string{}
	}
	p.names[key] = name
	p.bindings = append(p.bindings, module.Binding{Symbol: name, Target: target, Offset: s.Addr - p.Bias})
	return name
}

// ambiguous refuses what several things of the program may be.
func ambiguous(name, source string, several []*loaded.Symbol) error {
	var places []string
	for _, s := range several {
		places = append(places, fmt.Sprintf("%s at %#x", s.File, s.Addr))
	}
	return &finding.Refusal{Findings: []finding.Finding{{
		Code: finding.SymbolAmbiguous, Severity: finding.Error, Function: name, Source: source,
		Message: "the program has several of this name, and the code of the base does not say which: " + strings.Join(places, ", "),
		Advice:  "give the static ones names of their own and rebuild the program; or change other functions only",
	}}}
}
