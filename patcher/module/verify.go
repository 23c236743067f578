package module

import (
	"debug/elf"
	"encoding/hex"
	"math"
	"sort"
	"strings"

	"github.com/darn-dev/darn/patcher/finding"
)

// MaxImage bounds the addresses of a module, in bytes: a module is placed
// whole within reach of a 32-bit displacement of the target's text.
const MaxImage = 1 << 30

// maxFunction bounds the size of a function, in bytes.
const maxFunction = 16 << 20

// End returns the first address after the last segment.
func (m *Module) End() uint64 {
	if len(m.Segments) == 0 {
		return 0
	}
	s := m.Segments[len(m.Segments)-1]
	return s.Addr + s.Size
}

// segment returns the index of the segment that holds addr, or -1.
func (m *Module) segment(addr uint64) int {
	i := sort.Search(len(m.Segments), func(i int) bool { return m.Segments[i].Addr > addr }) - 1
	if i < 0 || addr-m.Segments[i].Addr >= m.Segments[i].Size {
		return -1
	}
	return i
}

// holds reports whether n bytes at addr lie in one segment that has the flags.
func (m *Module) holds(addr, n uint64, flags elf.ProgFlag) bool {
	i := m.segment(addr)
	if i < 0 {
		return false
	}
	s := &m.Segments[i]
	return s.Flags&flags == flags && n <= s.Size-(addr-s.Addr)
}

// verify checks every rule of the format. Whoever uses a Module may rely on
// them: addresses and counts need no second look.
func (m *Module) verify() error {
	for _, check := range []func() error{m.verifySegments, m.verifySymbols, m.verifyRelocs, m.verifyDebug, m.verifyManifest} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (m *Module) verifySegments() error {
	if len(m.Segments) == 0 {
		return malformed("there are no segments")
	}
	if len(m.Segments) >= maxPrograms {
		return malformed("%d segments are too many", len(m.Segments))
	}
	var end uint64
	for i, s := range m.Segments {
		switch {
		case !validName(s.Name):
			return malformed("segment %d has the name %q", i, s.Name)
		case s.Addr%pageSize != 0 || s.Size%pageSize != 0 || s.Size == 0:
			return malformed("segment %d (%#x, %#x bytes) is not a run of whole pages", i, s.Addr, s.Size)
		case s.Addr < end:
			return malformed("segment %d at %#x overlaps the one before it, or is out of order", i, s.Addr)
		case s.Size > MaxImage || s.Addr > MaxImage-s.Size:
			return malformed("segment %d (%#x, %#x bytes) lies beyond the %#x bytes that a module may span", i, s.Addr, s.Size, MaxImage)
		case uint64(len(s.Data)) > s.Size:
			return malformed("segment %d has %#x bytes in the file and only %#x in memory", i, len(s.Data), s.Size)
		case s.Flags&^(elf.PF_R|elf.PF_W|elf.PF_X) != 0 || s.Flags&elf.PF_R == 0:
			return malformed("segment %d has the flags %v", i, s.Flags)
		case s.Flags&(elf.PF_W|elf.PF_X) == elf.PF_W|elf.PF_X:
			return malformed("segment %d is writable and executable", i)
		}
		end = s.Addr + s.Size
	}
	return nil
}

func (m *Module) verifySymbols() error {
	if len(m.Symbols) >= math.MaxInt32 {
		return malformed("%d symbols are too many", len(m.Symbols))
	}
	end := m.End()
	seen := make(map[string]bool, len(m.Symbols))
	for i, s := range m.Symbols {
		switch s.Type {
		case elf.STT_FUNC, elf.STT_OBJECT, elf.STT_NOTYPE, elf.STT_TLS:
		default:
			return malformed("symbol %q has type %v, which has no place in a module", s.Name, s.Type)
		}
		switch {
		case !validName(s.Name):
			return malformed("symbol %d has the name %q", i, s.Name)
		case !s.Local && seen[s.Name]:
			return malformed("the global symbol %q is there twice", s.Name)
		case s.Undefined && (s.Local || s.Addr != 0):
			return malformed("the undefined symbol %q has a value or is local", s.Name)
		case !s.Undefined && s.Type == elf.STT_TLS:
			return malformed("symbol %q is thread-local storage of the module's own, which cannot be had in a running process", s.Name)
		case !s.Undefined && (s.Size > end || s.Addr > end-s.Size):
			return malformed("symbol %q (%#x, %#x bytes) lies outside the module", s.Name, s.Addr, s.Size)
		}
		seen[s.Name] = seen[s.Name] || !s.Local
	}
	return nil
}

func (m *Module) verifyRelocs() error {
	end := m.End()
	var free uint64 // the first byte after the relocation before
	for i, r := range m.Relocs {
		n := width(r.Type)
		switch {
		case n == 0:
			return malformed("relocation %d at %#x has type %v, which has no place in a module", i, r.Addr, r.Type)
		case !m.holds(r.Addr, n, 0):
			return malformed("relocation %d at %#x alters bytes outside every segment", i, r.Addr)
		case r.Addr < free:
			return malformed("relocation %d at %#x overlaps the one before it, or is out of order", i, r.Addr)
		case (r.Type == elf.R_X86_64_RELATIVE) != (r.Symbol == -1) || r.Symbol >= len(m.Symbols) || r.Symbol < -1:
			return malformed("relocation %d (%v at %#x) refers to symbol %d, which does not exist or is not wanted", i, r.Type, r.Addr, r.Symbol)
		case r.Symbol == -1 && (r.Addend < 0 || uint64(r.Addend) > end):
			return malformed("relocation %d at %#x leads to %#x, outside the module", i, r.Addr, r.Addend)
		case r.Symbol >= 0 && (m.Symbols[r.Symbol].Type == elf.STT_TLS) != (r.Type == elf.R_X86_64_TPOFF32):
			return malformed("relocation %d at %#x: %v does not fit symbol %q of type %v", i, r.Addr, r.Type,
				m.Symbols[r.Symbol].Name, m.Symbols[r.Symbol].Type)
		}
		free = r.Addr + n
	}
	return nil
}

func (m *Module) verifyDebug() error {
	seen := map[string]bool{}
	for _, s := range m.Debug {
		if !validName(s.Name) || seen[s.Name] {
			return malformed("the section %q is there twice, or its name is no name", s.Name)
		}
		seen[s.Name] = true
	}
	return nil
}

func (m *Module) verifyManifest() error {
	f := &m.Manifest
	switch {
	case f.Format != FormatVersion:
		return malformed("the manifest has format %d; this version of Darn knows format %d", f.Format, FormatVersion)
	case f.Name == "":
		return malformed("the manifest gives the module no name")
	case f.Language != "go":
		return malformed("the manifest gives the language %q; this version of Darn knows \"go\"", f.Language)
	case f.Go == nil:
		return malformed("the manifest has no part for Go")
	case f.Target.GoBuildID == "" && f.Target.GNUBuildID == "":
		return malformed("the manifest does not say which build of the target the module is for")
	case len(f.Functions) == 0:
		return malformed("the manifest replaces no function")
	}
	for _, x := range f.Findings {
		if x.Severity == finding.Error {
			return malformed("the manifest carries a refusal: %v", x)
		}
	}
	for i := range f.Sources {
		if x := &f.Sources[i]; x.Path == "" || !x.ordered() {
			return malformed("the lines of the changed file %q are out of order", x.Path)
		}
	}
	names := m.names()
	replaced := make(map[string]bool, len(f.Functions))
	for i := range f.Functions {
		x := &f.Functions[i]
		if replaced[x.Symbol] {
			return malformed("the manifest replaces %q twice", x.Symbol)
		}
		replaced[x.Symbol] = true
		if err := m.verifyFunction(x, names); err != nil {
			return err
		}
	}
	required, err := verifyRequires(f.Requires)
	if err != nil {
		return err
	}
	return m.verifyGo(f.Go, names, required)
}

// verifyRequires returns the IDs of the modules that are required, and "".
func verifyRequires(list []Required) (map[string]bool, error) {
	ids := map[string]bool{"": true}
	for _, x := range list {
		sum, err := hex.DecodeString(x.ID)
		if err != nil || len(sum) != 32 || ids[x.ID] || !validName(x.Name) || x.Size == 0 || x.Size > MaxImage || x.Text > x.Size {
			return nil, malformed("the module that it requires (%q, %q, %#x bytes, text at %#x) can't be one, or is there twice", x.ID, x.Name, x.Size, x.Text)
		}
		ids[x.ID] = true
	}
	return ids, nil
}

// entry is what the manifest may refer to by name.
type entry struct {
	symbol *Symbol
	count  int // symbols of that name
}

func (m *Module) names() map[string]entry {
	names := make(map[string]entry, len(m.Symbols))
	for i := range m.Symbols {
		names[m.Symbols[i].Name] = entry{&m.Symbols[i], names[m.Symbols[i].Name].count + 1}
	}
	return names
}

func (m *Module) verifyFunction(x *Function, names map[string]entry) error {
	e := names[x.New]
	sum, err := hex.DecodeString(x.SHA256)
	switch {
	case !validName(x.Symbol):
		return malformed("the manifest replaces a function named %q", x.Symbol)
	case e.count != 1 || e.symbol.Undefined || e.symbol.Type != elf.STT_FUNC || e.symbol.Size == 0:
		return malformed("%s: its replacement %q is not the name of one function of the module", x.Symbol, x.New)
	case !m.holds(e.symbol.Addr, e.symbol.Size, elf.PF_X):
		return malformed("%s: its replacement at %#x is not in executable memory", x.Symbol, e.symbol.Addr)
	case x.Size == 0 || x.Size > maxFunction:
		return malformed("%s: the old code has %d bytes", x.Symbol, x.Size)
	case x.Offset > math.MaxUint32:
		return malformed("%s: the old code is %#x after the start of the text, farther than a jump reaches", x.Symbol, x.Offset)
	case err != nil || len(sum) != 32:
		return malformed("%s: %q is no SHA-256 of the old code", x.Symbol, x.SHA256)
	}
	var free uint64
	for _, f := range x.Masked {
		if uint64(f.Offset) < free || f.Size == 0 || uint64(f.Offset)+uint64(f.Size) > x.Size {
			return malformed("%s: the masked field at %d (%d bytes) lies outside the old code, or overlaps the one before it", x.Symbol, f.Offset, f.Size)
		}
		free = uint64(f.Offset) + uint64(f.Size)
	}
	for _, l := range x.Lost {
		if !validName(l.Symbol) || l.Size == 0 || l.Size > maxFunction || l.Offset > math.MaxUint32 {
			return malformed("%s: what goes with the old code (%q, %#x bytes at %#x) can't be a function", x.Symbol, l.Symbol, l.Size, l.Offset)
		}
	}
	return nil
}

func (m *Module) verifyGo(g *Go, names map[string]entry, required map[string]bool) error {
	end := m.End()
	switch {
	case g.ModuledataSize == 0 || !m.holds(g.ModuledataAddr, g.ModuledataSize, elf.PF_W):
		return malformed("the moduledata (%#x, %d bytes) is not in writable memory of the module", g.ModuledataAddr, g.ModuledataSize)
	case g.TypesAddr > end || g.TextAddr > end:
		return malformed("the start of the types (%#x) or of the text (%#x) lies outside the module", g.TypesAddr, g.TextAddr)
	case g.Init != nil && (!m.holds(g.Init.State, InitStateSize, elf.PF_W) || g.Init.State%8 != 0 || !m.holds(g.Init.Start, 8, 0)):
		return malformed("what initialises the module (%#x, with its state at %#x) is not in it", g.Init.Start, g.Init.State)
	}
	bound := make(map[string]bool, len(g.Types)+len(g.Itabs))
	bind := func(symbol string) error {
		if e := names[symbol]; !validName(symbol) || bound[symbol] || e.count > 1 || e.count == 1 && !e.symbol.Undefined {
			return malformed("the manifest binds %q, which is bound already, or which the module defines", symbol)
		}
		bound[symbol] = true
		return nil
	}
	known := func(symbol string) bool {
		e := names[symbol]
		return bound[symbol] || e.count == 1
	}
	own := func(symbol string) bool {
		e := names[symbol]
		return e.count == 1 && !e.symbol.Undefined
	}
	for _, t := range g.Types {
		if err := bind(t.Symbol); err != nil {
			return err
		}
		if t.Offset > math.MaxUint32 || t.String == "" || !required[t.Module] {
			return malformed("the type binding of %q (offset %#x, %q) is malformed", t.Symbol, t.Offset, t.String)
		}
	}
	for _, t := range g.Itabs {
		if err := bind(t.Symbol); err != nil {
			return err
		}
		switch {
		case !known(t.Type) || !known(t.Inter):
			return malformed("the itab binding of %q refers to a type that the module neither binds nor defines (%q, %q)", t.Symbol, t.Type, t.Inter)
		case t.Own != "" && !own(t.Own):
			return malformed("the itab binding of %q refers to %q, which the module does not define", t.Symbol, t.Own)
		case t.HasStatic && !reachable(t.Static):
			return malformed("the itab binding of %q has the offset %#x, farther than 4 GiB", t.Symbol, t.Static)
		}
	}
	for _, x := range g.Imports {
		if err := bind(x.Symbol); err != nil {
			return err
		}
		if x.Module == "" || !required[x.Module] || x.Offset > MaxImage || x.Size == 0 || x.Size > MaxImage {
			return malformed("the import of %q (%d bytes at %#x of %q) is malformed", x.Symbol, x.Size, x.Offset, x.Module)
		}
	}
	shared := make(map[string]bool, len(g.Variables))
	for _, v := range g.Variables {
		if !own(v.Symbol) || !validName(v.Name) || shared[v.Name] {
			return malformed("the variable %q (%q) is there twice, or the module does not define it", v.Name, v.Symbol)
		}
		shared[v.Name] = true
	}
	type slot struct {
		module string
		offset int64
	}
	filled := make(map[slot]bool, len(g.Methods))
	for _, f := range g.Methods {
		at := slot{f.Module, f.Offset}
		if f.Size != 4 && f.Size != 8 || !reachable(f.Offset) || filled[at] || !known(f.Symbol) || !required[f.Module] {
			return malformed("the method slot at %#x (%d bytes, %q) is malformed", f.Offset, f.Size, f.Symbol)
		}
		filled[at] = true
	}
	return nil
}

// reachable bounds an offset between two places of one program.
func reachable(offset int64) bool {
	return offset >= math.MinInt32*2 && offset <= math.MaxUint32
}

// validName reports whether s can stand in a string table and in a message.
func validName(s string) bool {
	return s != "" && !strings.ContainsAny(s, "\x00\n")
}
