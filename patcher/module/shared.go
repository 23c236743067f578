package module

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/darn-dev/darn/patcher/finding"
)

// Shared is what a module has that a C or C++ compiler made: a shared object as
// the dynamic linker would take it.
type Shared struct {
	// Needed are the libraries that it was linked with (DT_NEEDED).
	Needed []string
	// SearchPath are the directories that the module names for them
	// (DT_RUNPATH, else DT_RPATH), with $ORIGIN as it is.
	SearchPath []string
	// Constructors are what the dynamic linker would call, in that order.
	Constructors []uint64
	// Frames is the address of .eh_frame, 0 if there is none.
	Frames uint64
	// Ended tells that a zero ends .eh_frame, as who walks it without knowing its
	// size relies on.
	Ended bool
	// Fixups are the manifest's, as relocations; Symbol is -1 for the module
	// itself.
	Fixups []Reloc
	// File is the file as it is, for its debugging information.
	File []byte
}

// unfit refuses a shared object that can't be a module, and says why.
func unfit(advice, format string, args ...any) error {
	return finding.Refuse(finding.UnsupportedBuild, fmt.Sprintf(format, args...), advice)
}

// readShared reads a shared object that a compiler made; its manifest is m's,
// or is made up if it has none.
func readShared(data []byte, m *Module) (err error) {
	// debug/elf may panic on a file that was made to.
	defer func() {
		if r := recover(); r != nil {
			err = malformed("the shared object is damaged: %v", r)
		}
	}()
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return malformed("%v", err)
	}
	s := &shared{m: m, f: f, file: data}
	m.Shared = &Shared{File: data}
	if m.Manifest.Format == 0 {
		m.Manifest = Manifest{Format: FormatVersion, Language: "c"}
	}
	for _, step := range []func() error{s.headers, s.segments, s.symbols, s.relocations, s.constructors, s.fixups, m.verifyShared} {
		if err := step(); err != nil {
			return err
		}
	}
	if e := f.Section(".eh_frame"); e != nil {
		m.Shared.Frames, m.Shared.Ended = e.Addr, m.ended(e.Addr)
	}
	return nil
}

// ended tells whether the unwind tables at an address come to an end.
func (m *Module) ended(addr uint64) bool {
	i := m.segment(addr)
	if i < 0 {
		return false
	}
	s := &m.Segments[i]
	for at := addr - s.Addr; at+4 <= s.Size; {
		if at+4 > uint64(len(s.Data)) {
			return at >= uint64(len(s.Data)) // zeros
		}
		n := binary.LittleEndian.Uint32(s.Data[at:])
		if n == 0 {
			return true
		}
		if n == 0xffffffff { // of 64 bits: no compiler makes such tables
			return false
		}
		at += 4 + uint64(n)
	}
	return false
}

// shared is the state of one readShared.
type shared struct {
	m    *Module
	f    *elf.File
	file []byte
}

// headers refuses what a module can't be.
func (s *shared) headers() error {
	for _, p := range s.f.Progs {
		switch {
		case p.Type == elf.PT_INTERP:
			return unfit("compile it with -shared -fPIC", "the file is a program, not a shared object")
		case p.Type == elf.PT_GNU_STACK && p.Flags&elf.PF_X != 0:
			return unfit("say in assembly files that they need none (.section .note.GNU-stack), and use no nested functions", "the module wants an executable stack")
		case p.Type == elf.PT_LOAD && p.Flags&(elf.PF_W|elf.PF_X) == elf.PF_W|elf.PF_X:
			return unfit("link it without -z rwx or -N", "the module has memory that is writable and executable")
		case p.Type == elf.PT_TLS && p.Memsz > 0:
			return unfit("use a variable of the program's, or one that all threads share",
				"the module has thread-local variables of its own, which threads that run already have no room for")
		}
	}
	if text, err := s.f.DynValue(elf.DT_TEXTREL); err == nil && len(text) > 0 || s.flagged(elf.DT_FLAGS, uint64(elf.DF_TEXTREL)) {
		return unfit("compile it with -fPIC", "the module's code has to be changed to be loaded (text relocations)")
	}
	var err error
	s.m.Shared.Needed, err = s.f.ImportedLibraries()
	if err != nil {
		return malformed("its libraries: %v", err)
	}
	for _, tag := range []elf.DynTag{elf.DT_RUNPATH, elf.DT_RPATH} {
		paths, err := s.f.DynString(tag)
		if err != nil {
			return malformed("where its libraries are: %v", err)
		}
		if len(paths) > 0 {
			s.m.Shared.SearchPath = strings.Split(paths[0], ":")
			break
		}
	}
	return nil
}

// flagged tells whether the dynamic section has a flag.
func (s *shared) flagged(tag elf.DynTag, flag uint64) bool {
	values, err := s.f.DynValue(tag)
	return err == nil && slices.ContainsFunc(values, func(v uint64) bool { return v&flag != 0 })
}

// segments makes whole pages of what is to be loaded.
func (s *shared) segments() error {
	for _, p := range s.f.Progs {
		if p.Type != elf.PT_LOAD || p.Memsz == 0 {
			continue
		}
		if p.Filesz > p.Memsz || p.Vaddr > MaxImage || p.Memsz > MaxImage || p.Off > uint64(len(s.file)) || p.Filesz > uint64(len(s.file))-p.Off {
			return malformed("a segment at %#x (%#x bytes) lies outside the file or beyond the %#x bytes that a module may span", p.Vaddr, p.Memsz, MaxImage)
		}
		start := p.Vaddr &^ (pageSize - 1)
		data := make([]byte, p.Vaddr-start+p.Filesz)
		copy(data[p.Vaddr-start:], s.file[p.Off:p.Off+p.Filesz])
		s.m.Segments = append(s.m.Segments, Segment{
			Name: fmt.Sprintf("load%d", len(s.m.Segments)), Addr: start, Data: data,
			Size: align(p.Vaddr+p.Memsz, pageSize) - start, Flags: p.Flags,
		})
	}
	return nil
}

// symbols reads the dynamic symbols, to which relocations refer by number, and
// then what the static table has besides.
func (s *shared) symbols() error {
	dynamic, err := s.f.DynamicSymbols()
	if err != nil && !errors.Is(err, elf.ErrNoSymbols) {
		return malformed("its dynamic symbols: %v", err)
	}
	type place struct {
		name string
		addr uint64
	}
	seen := map[place]bool{}
	add := func(x elf.Symbol, file string) {
		seen[place{x.Name, x.Value}] = true
		bind := elf.ST_BIND(x.Info)
		y := Symbol{
			Name: x.Name, Type: elf.ST_TYPE(x.Info), Addr: x.Value, Size: x.Size,
			Undefined: x.Section == elf.SHN_UNDEF, Local: bind == elf.STB_LOCAL, Weak: bind == elf.STB_WEAK, File: file,
		}
		if y.Undefined && x.HasVersion {
			y.Version = x.Version
		}
		s.m.Symbols = append(s.m.Symbols, y)
	}
	for _, x := range dynamic {
		add(x, "")
	}
	static, err := s.f.Symbols()
	if err != nil && !errors.Is(err, elf.ErrNoSymbols) {
		return malformed("its symbols: %v", err)
	}
	file := ""
	for _, x := range static {
		switch typ := elf.ST_TYPE(x.Info); {
		case typ == elf.STT_FILE:
			file = x.Name
		case x.Section == elf.SHN_UNDEF || x.Section >= elf.SHN_LORESERVE || x.Name == "" || seen[place{x.Name, x.Value}]:
		case typ == elf.STT_FUNC || typ == elf.STT_OBJECT:
			if elf.ST_BIND(x.Info) != elf.STB_LOCAL {
				// The linker made it local to the module: hidden visibility.
				x.Info = elf.ST_INFO(elf.STB_GLOBAL, typ)
				add(x, "")
				continue
			}
			add(x, file)
		}
	}
	return nil
}

// relocations reads what the dynamic linker would apply.
func (s *shared) relocations() error {
	read := func(at, size elf.DynTag) error {
		addr, err := s.f.DynValue(at)
		if err != nil || len(addr) == 0 {
			return nil
		}
		n, err := s.f.DynValue(size)
		if err != nil || len(n) == 0 {
			return malformed("the relocations at %#x have no size", addr[0])
		}
		table := s.m.bytes(addr[0], n[0])
		if table == nil || n[0]%relocSize != 0 {
			return malformed("the relocations at %#x (%d bytes) are not in the module", addr[0], n[0])
		}
		for ; len(table) > 0; table = table[relocSize:] {
			info := binary.LittleEndian.Uint64(table[8:])
			s.m.Relocs = append(s.m.Relocs, Reloc{
				Addr: binary.LittleEndian.Uint64(table), Type: elf.R_X86_64(info & 0xffffffff),
				Symbol: int(info>>32) - 1, Addend: int64(binary.LittleEndian.Uint64(table[16:])),
			})
		}
		return nil
	}
	if err := s.packed(); err != nil {
		return err
	}
	if err := read(elf.DT_RELA, elf.DT_RELASZ); err != nil {
		return err
	}
	return read(elf.DT_JMPREL, elf.DT_PLTRELSZ)
}

// The tags of a table of packed relative relocations.
const (
	dtRelrSize = elf.DynTag(35)
	dtRelr     = elf.DynTag(36)
)

// packed reads relative relocations in the packed form (DT_RELR): addresses, each
// followed by maps of which of the next 63 words are relocated too. The addends
// are in the words.
func (s *shared) packed() error {
	addr, err := s.f.DynValue(dtRelr)
	if err != nil || len(addr) == 0 {
		return nil
	}
	n, err := s.f.DynValue(dtRelrSize)
	if err != nil || len(n) == 0 {
		return malformed("the packed relocations at %#x have no size", addr[0])
	}
	table := s.m.bytes(addr[0], n[0])
	if table == nil || n[0]%8 != 0 {
		return malformed("the packed relocations at %#x (%d bytes) are not in the module", addr[0], n[0])
	}
	add := func(at uint64) error {
		word := s.m.bytes(at, 8)
		if word == nil {
			return malformed("a packed relocation at %#x alters bytes outside every segment", at)
		}
		s.m.Relocs = append(s.m.Relocs, Reloc{Addr: at, Type: elf.R_X86_64_RELATIVE, Symbol: -1, Addend: int64(binary.LittleEndian.Uint64(word))})
		return nil
	}
	next := uint64(0)
	for ; len(table) > 0; table = table[8:] {
		entry := binary.LittleEndian.Uint64(table)
		if entry&1 == 0 {
			if err := add(entry); err != nil {
				return err
			}
			next = entry + 8
			continue
		}
		for i := range uint64(63) {
			if entry>>(i+1)&1 == 0 {
				continue
			}
			if err := add(next + 8*i); err != nil {
				return err
			}
		}
		next += 63 * 8
	}
	return nil
}

// fixups takes the manifest's fixups over, with symbols for what they refer to.
func (s *shared) fixups() error {
	number := map[string]int{}
	for i, x := range s.m.Symbols {
		if x.Undefined {
			number[x.Name] = i
		}
	}
	for _, f := range s.m.Manifest.Fixups {
		r := Reloc{Addr: f.Addr, Type: elf.R_X86_64(f.Type), Symbol: -1, Addend: f.Addend}
		if f.Symbol != "" {
			n, known := number[f.Symbol]
			if !known {
				n = len(s.m.Symbols)
				number[f.Symbol] = n
				s.m.Symbols = append(s.m.Symbols, Symbol{Name: f.Symbol, Undefined: true})
			}
			r.Symbol = n
		}
		s.m.Shared.Fixups = append(s.m.Shared.Fixups, r)
	}
	return nil
}

// constructors finds what is to be called when the module is there. What the
// compiler's own files bring (frame_dummy, _init) does nothing in a module.
func (s *shared) constructors() error {
	addr, err := s.f.DynValue(elf.DT_INIT_ARRAY)
	if err != nil || len(addr) == 0 {
		return nil
	}
	n, err := s.f.DynValue(elf.DT_INIT_ARRAYSZ)
	if err != nil || len(n) == 0 || n[0] > MaxImage {
		return malformed("the constructors at %#x have no size", addr[0])
	}
	var found []Reloc
	for _, r := range s.m.Relocs {
		if r.Addr >= addr[0] && r.Addr < addr[0]+n[0] {
			found = append(found, r)
		}
	}
	slices.SortFunc(found, func(a, b Reloc) int { return int(int64(a.Addr) - int64(b.Addr)) })
	for _, r := range found {
		at := uint64(r.Addend)
		if r.Symbol >= 0 && r.Symbol < len(s.m.Symbols) {
			at += s.m.Symbols[r.Symbol].Addr
		}
		if name := s.m.FunctionAt(at); name != "frame_dummy" {
			s.m.Shared.Constructors = append(s.m.Shared.Constructors, at)
		}
	}
	return nil
}

// FunctionAt returns the name of the module's function that holds addr, "" if
// none does.
func (m *Module) FunctionAt(addr uint64) string {
	for i := range m.Symbols {
		if x := &m.Symbols[i]; x.Type == elf.STT_FUNC && !x.Undefined && (addr == x.Addr || addr-x.Addr < x.Size) {
			return x.Name
		}
	}
	return ""
}

// bytes returns n bytes of the file at an address, or nil.
func (m *Module) bytes(addr, n uint64) []byte {
	i := m.segment(addr)
	if i < 0 {
		return nil
	}
	s := &m.Segments[i]
	off := addr - s.Addr
	if off > uint64(len(s.Data)) || n > uint64(len(s.Data))-off {
		return nil
	}
	return s.Data[off : off+n]
}

// runtimeSymbols are the functions that the compiler's own files bring into
// every shared object and every program.
var runtimeSymbols = []string{
	"_init", "_fini", "deregister_tm_clones", "register_tm_clones", "__do_global_dtors_aux", "frame_dummy", "_start", "main",
}

// standardNames begin the names of the C++ standard library's functions.
var standardNames = []string{"_ZSt", "_ZNSt", "_ZNKSt", "_ZNS", "_ZNKS", "_ZN9__gnu_cxx", "_ZNK9__gnu_cxx", "_ZdlPv", "_Znw", "_Zna", "_Zda"}

// Replaces returns the functions of a shared object that may stand for one of
// the program's with their name.
func (m *Module) Replaces() []*Symbol {
	var found []*Symbol
	for i := range m.Symbols {
		x := &m.Symbols[i]
		if x.Undefined || x.Type != elf.STT_FUNC || x.Size == 0 || slices.Contains(runtimeSymbols, x.Name) || strings.HasPrefix(x.Name, "__x86.get_pc_thunk") {
			continue
		}
		// Copies of the standard library's templates are the module's own.
		if x.Weak && slices.ContainsFunc(standardNames, func(prefix string) bool { return strings.HasPrefix(x.Name, prefix) }) {
			continue
		}
		// What the compiler split off belongs to the function it was split from.
		if base, _, split := strings.Cut(x.Name, "."); split && base != "" {
			continue
		}
		found = append(found, x)
	}
	return found
}

// fixupWidth returns how many bytes a fixup alters, 0 of a type that is none.
func fixupWidth(t elf.R_X86_64) uint64 {
	switch t {
	case elf.R_X86_64_64:
		return 8
	case elf.R_X86_64_PC32, elf.R_X86_64_32, elf.R_X86_64_32S, elf.R_X86_64_TPOFF32:
		return 4
	}
	return 0
}

// verifyShared checks what whoever uses the module relies on.
func (m *Module) verifyShared() error {
	if err := m.verifySegments(); err != nil {
		return err
	}
	end := m.End()
	for _, x := range m.Symbols {
		if x.Name != "" && !validName(x.Name) {
			return malformed("a symbol has the name %q", x.Name)
		}
		if !x.Undefined && (x.Type == elf.STT_FUNC || x.Type == elf.STT_OBJECT) && (x.Size > end || x.Addr > end-x.Size) {
			return malformed("symbol %q (%#x, %#x bytes) lies outside the module", x.Name, x.Addr, x.Size)
		}
		if x.Type == elf.STT_GNU_IFUNC && !x.Undefined {
			return unfit("choose the implementation in the function itself", "the module has the indirect function %q of its own", x.Name)
		}
	}
	for _, r := range m.Relocs {
		last := uint64(7) // byte that it alters
		switch r.Type {
		case elf.R_X86_64_RELATIVE, elf.R_X86_64_64, elf.R_X86_64_GLOB_DAT, elf.R_X86_64_JMP_SLOT,
			elf.R_X86_64_DTPMOD64, elf.R_X86_64_DTPOFF64, elf.R_X86_64_TPOFF64:
		case elf.R_X86_64_TLSDESC:
			last = 15
		default:
			return unfit("compile it with -fPIC by gcc or clang", "the module has a relocation of type %v at %#x, which can't be bound", r.Type, r.Addr)
		}
		if i := m.segment(r.Addr); i < 0 || m.segment(r.Addr+last) != i {
			return malformed("a relocation at %#x alters bytes outside every segment", r.Addr)
		} else if m.Segments[i].Flags&elf.PF_W == 0 {
			return unfit("compile it with -fPIC", "the module's code has to be changed to be loaded (a relocation at %#x)", r.Addr)
		}
		if r.Symbol < -1 || r.Symbol >= len(m.Symbols) || r.Type == elf.R_X86_64_RELATIVE && uint64(r.Addend) > end {
			return malformed("a relocation at %#x refers to what does not exist", r.Addr)
		}
	}
	for i := range m.Manifest.Sources {
		if x := &m.Manifest.Sources[i]; x.Path == "" || !x.ordered() {
			return malformed("the lines of the source %q are out of order", x.Path)
		}
	}
	for _, r := range m.Shared.Fixups {
		n := fixupWidth(r.Type)
		switch {
		case n == 0, r.Symbol < 0 && r.Type == elf.R_X86_64_TPOFF32:
			return malformed("a fixup at %#x has type %v, which has no place in a module", r.Addr, r.Type)
		case !m.holds(r.Addr, n, 0):
			return malformed("a fixup at %#x alters bytes outside every segment", r.Addr)
		case r.Symbol < 0 && (r.Addend < 0 || uint64(r.Addend) > end):
			return malformed("a fixup at %#x leads to %#x, outside the module", r.Addr, r.Addend)
		}
	}
	for _, c := range m.Shared.Constructors {
		if !m.holds(c, 1, elf.PF_X) {
			return malformed("a constructor at %#x is not in executable memory", c)
		}
	}
	return nil
}
