package link

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/module"
)

const (
	ownName = "main.replaced"
	textAt  = 0x1000
	rodata  = 0x3000
	dataAt  = 0x5000
	bssAt   = 0x7000
)

// sample makes a module for the target that has one of everything.
func (s *program) sample(t testing.TB) *module.Module {
	t.Helper()
	old, ok, _ := s.x.Symbol(ownName)
	if !ok {
		t.Fatalf("no symbol %s", ownName)
	}
	code := make([]byte, old.Size)
	if err := s.x.ReadAt(code, old.Addr); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(code)
	m := &module.Module{
		Manifest: module.Manifest{
			Format: module.FormatVersion, Name: "sample", Language: "go",
			Functions: []module.Function{{
				Symbol: ownName, New: "main.new", Offset: old.Addr - s.x.TextStart, Size: old.Size,
				SHA256: hex.EncodeToString(sum[:]),
			}},
			Go: &module.Go{ModuledataAddr: dataAt + 0x100, ModuledataSize: 0x200, TypesAddr: rodata, TextAddr: textAt},
		},
		Segments: []module.Segment{
			{Name: ".text", Addr: textAt, Data: bytes.Repeat([]byte{0xcc}, 0x100), Size: 0x1000, Flags: elf.PF_R | elf.PF_X},
			{Name: ".rodata", Addr: rodata, Data: make([]byte, 0x1000), Size: 0x1000, Flags: elf.PF_R},
			{Name: ".data", Addr: dataAt, Data: make([]byte, 0x1000), Size: 0x2000, Flags: elf.PF_R | elf.PF_W},
			{Name: ".bss", Addr: bssAt, Size: 0x2000, Flags: elf.PF_R | elf.PF_W},
		},
		Symbols: []module.Symbol{
			{Name: "main.new", Type: elf.STT_FUNC, Addr: textAt, Size: 0x20},
			{Name: "main.local", Type: elf.STT_FUNC, Addr: textAt + 0x20, Size: 0x20, Local: true},
			{Name: "main.local", Type: elf.STT_FUNC, Addr: textAt + 0x40, Size: 0x20, Local: true},
			{Name: "type:own", Type: elf.STT_OBJECT, Addr: rodata + 0x800, Size: TypeBytes},
			{Name: "go:itab.own", Type: elf.STT_OBJECT, Addr: rodata + 0x900, Size: 32},
			{Name: "runtime.mallocgc", Type: elf.STT_FUNC, Undefined: true},
			{Name: "runtime.tlsg", Type: elf.STT_TLS, Undefined: true},
		},
	}
	hash := uint32(0x1234567)
	binary.LittleEndian.PutUint32(m.Segments[1].Data[0x800+TypeHash:], hash)
	binary.LittleEndian.PutUint32(m.Segments[1].Data[0x900+ITabHash:], hash)
	for _, y := range s.types {
		s.bind(t, m, y)
	}
	// The pointer type leads to the interface (abi.PtrType.Elem).
	var elem [8]byte
	if err := s.ReadMemory(elem[:], s.typ(t, "*io.Writer")+TypeBytes); err != nil {
		t.Fatal(err)
	}
	const writer = "type:io.Writer"
	s.bind(t, m, goType{addr: binary.LittleEndian.Uint64(elem[:]), size: 16, kind: uint8(reflect.Interface), str: "io.Writer", pkgPath: "io"})
	m.Manifest.Go.Itabs = []module.ItabBinding{
		{Symbol: "go:itab.*os.File,io.Writer", HasStatic: true, Static: int64(s.itab - s.Types().Start),
			Type: "type:*os.File", Inter: writer, Hash: s.hash(t, s.typ(t, "*os.File"))},
		{Symbol: "go:itab.own,io.Writer", Type: "type:own", Inter: writer, Hash: hash, Own: "go:itab.own"},
	}
	for _, b := range m.Manifest.Go.Itabs {
		m.Symbols = append(m.Symbols, module.Symbol{Name: b.Symbol, Type: elf.STT_OBJECT, Undefined: true})
	}
	m.Manifest.Go.Methods = []module.MethodFill{
		{Offset: int64(s.itab - s.Types().Start + ITabFun), Size: 8, Symbol: "main.new"},
		{Offset: int64(s.typ(t, "*os.File") - s.Types().Start), Size: 4, Symbol: "main.new"},
	}
	at := uint64(dataAt + 0x400)
	reloc := func(typ elf.R_X86_64, symbol string, place uint64, addend int64) {
		i := slices.IndexFunc(m.Symbols, func(s module.Symbol) bool { return s.Name == symbol })
		m.Relocs = append(m.Relocs, module.Reloc{Addr: place, Type: typ, Symbol: i, Addend: addend})
	}
	reloc(elf.R_X86_64_PC32, "runtime.mallocgc", textAt+1, -4)
	reloc(elf.R_X86_64_TPOFF32, "runtime.tlsg", textAt+9, 0)
	reloc(elf.R_X86_64_64, writer, rodata+0x900+ITabInter, 0)
	reloc(elf.R_X86_64_64, "type:own", rodata+0x900+ITabType, 0)
	reloc(elf.R_X86_64_RELATIVE, "", dataAt+0x300, textAt+0x20)
	for i := range m.Symbols {
		if n := m.Symbols[i].Name; strings.HasPrefix(n, "type:") || strings.HasPrefix(n, "go:itab.") {
			reloc(elf.R_X86_64_64, n, at, 0)
			at += 8
		}
	}
	reloc(elf.R_X86_64_64, "main.new", bssAt+0x1000, 8) // beyond the data
	return m
}

// bind binds a type of the program.
func (s *program) bind(t testing.TB, m *module.Module, y goType) {
	t.Helper()
	m.Manifest.Go.Types = append(m.Manifest.Go.Types, module.TypeBinding{
		Symbol: "type:" + y.str, Offset: y.addr - s.Types().Start, Hash: s.hash(t, y.addr),
		Kind: y.kind, Size: y.size, String: y.str, PkgPath: y.pkgPath,
	})
	m.Symbols = append(m.Symbols, module.Symbol{Name: "type:" + y.str, Type: elf.STT_OBJECT, Undefined: true})
}

func (s *program) hash(t testing.TB, addr uint64) uint32 {
	t.Helper()
	var b [4]byte
	if err := s.ReadMemory(b[:], addr+TypeHash); err != nil {
		t.Fatal(err)
	}
	return binary.LittleEndian.Uint32(b[:])
}

// base is a place for a module within reach of the target.
func (s *program) base() uint64 { return (s.Types().End + 64<<20) &^ 4095 }

// at returns n bytes of an image at the module's address addr.
func at(t testing.TB, i *Image, addr, n uint64) []byte {
	t.Helper()
	for _, s := range i.Segments {
		if r := (Range{s.Addr, s.Addr + uint64(len(s.Data))}); r.Holds(i.Base+addr, n) {
			return s.Data[i.Base+addr-s.Addr:][:n]
		}
	}
	t.Fatalf("%#x is not in the image", addr)
	return nil
}

func TestBindRelocates(t *testing.T) {
	s := start(t)
	m := s.sample(t)
	base := s.base()
	image, err := Bind(m, s, base)
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	mallocgc, err := s.Symbol("runtime.mallocgc")
	if err != nil {
		t.Fatal(err)
	}
	if got := uint64(int64(int32(le.Uint32(at(t, image, textAt+1, 4))))) + base + textAt + 5; got != mallocgc {
		t.Errorf("the call leads to %#x, want %#x", got, mallocgc)
	}
	if got := int32(le.Uint32(at(t, image, textAt+9, 4))); int64(got) != s.TLSOffset() {
		t.Errorf("the thread-local offset is %d, want %d", got, s.TLSOffset())
	}
	if got := le.Uint64(at(t, image, dataAt+0x300, 8)); got != base+textAt+0x20 {
		t.Errorf("the relative pointer is %#x", got)
	}
	if got := le.Uint64(at(t, image, bssAt+0x1000, 8)); got != base+textAt+8 {
		t.Errorf("the pointer in zero-filled memory is %#x", got)
	}
	for _, r := range m.Relocs {
		if r.Type != elf.R_X86_64_64 || !m.Symbols[r.Symbol].Undefined {
			continue
		}
		got := le.Uint64(at(t, image, r.Addr, 8))
		switch name := m.Symbols[r.Symbol].Name; name {
		case "go:itab.own,io.Writer":
			if got != base+rodata+0x900 {
				t.Errorf("%s is at %#x", name, got)
			}
		case "go:itab.*os.File,io.Writer":
			if got != s.itab {
				t.Errorf("%s is at %#x, want %#x", name, got, s.itab)
			}
		case "type:*os.File":
			if want := s.typ(t, "*os.File"); got != want {
				t.Errorf("%s is at %#x, want %#x", name, got, want)
			}
		}
	}
}

func TestBindSaysWhatTheRuntimeMustBeTold(t *testing.T) {
	s := start(t)
	image, err := Bind(s.sample(t), s, s.base())
	if err != nil {
		t.Fatal(err)
	}
	if image.Moduledata != image.Base+dataAt+0x100 || image.ModuledataSize != 0x200 {
		t.Errorf("moduledata at %#x, %d bytes", image.Moduledata, image.ModuledataSize)
	}
	if len(image.Itabs) != 1 || image.Itabs[0].Addr != image.Base+rodata+0x900 || image.Itabs[0].Type != image.Base+rodata+0x800 {
		t.Errorf("itabs to publish: %+v", image.Itabs)
	}
	if len(image.Fills) != 2 || len(image.Fills[0].New) != 8 || len(image.Fills[1].New) != 4 {
		t.Errorf("fills: %+v", image.Fills)
	}
	if f := image.Functions[0]; f.Entry != s.replacedAt || f.New != image.Base+textAt {
		t.Errorf("replaces %#x by %#x", f.Entry, f.New)
	}
	if _, ok := image.Symbols["main.local"]; ok || image.Symbols["main.new"] != image.Base+textAt {
		t.Errorf("symbols: %v", image.Symbols)
	}
}

func TestBindUsesTheItabThatTheRuntimeHasMade(t *testing.T) {
	s := start(t)
	m := s.sample(t)
	m.Manifest.Go.Itabs[1].Type = "type:*os.File" // a pair of types of the program
	s.FindItab = func(inter, typ uint64) (uint64, bool, error) { return 0x424200, true, nil }
	image, err := Bind(m, s, s.base())
	if err != nil {
		t.Fatal(err)
	}
	if len(image.Itabs) != 0 {
		t.Errorf("its own is published too: %+v", image.Itabs)
	}
	for _, r := range m.Relocs {
		if r.Type == elf.R_X86_64_64 && m.Symbols[r.Symbol].Name == "go:itab.own,io.Writer" {
			if got := binary.LittleEndian.Uint64(at(t, image, r.Addr, 8)); got != 0x424200 {
				t.Errorf("it is bound to %#x", got)
			}
		}
	}
}

func TestBindRefuses(t *testing.T) {
	s := start(t)
	far := s.base() + 4<<30
	for _, c := range []struct {
		name  string
		alter func(m *module.Module)
		base  uint64
		code  finding.Code
		says  string
	}{
		{"a symbol that the target lacks", func(m *module.Module) { m.Symbols[5].Name = "main.nothing" }, 0, finding.SymbolUnresolved, `no symbol "main.nothing"`},
		{"a function that the target lacks", func(m *module.Module) { m.Manifest.Functions[0].Symbol = "main.nothing" }, 0, finding.SymbolUnresolved, "main.nothing"},
		{"a function that is elsewhere", func(m *module.Module) { m.Manifest.Functions[0].Offset += 16 }, 0, finding.TextMismatch, "was built to replace it at"},
		{"lost code beyond the text", func(m *module.Module) {
			m.Manifest.Functions[0].Lost = []module.Code{{Symbol: "f.func1", Offset: 1 << 40, Size: 8}}
		}, 0, finding.TextMismatch, "which are not in the program's text"},
		{"a function beyond the text", func(m *module.Module) { m.Manifest.Functions[0].Offset = 1 << 40 }, 0, finding.TextMismatch, "not in the program's text"},
		{"another thread-local", func(m *module.Module) { m.Symbols[6].Name = "errno" }, 0, finding.SymbolUnresolved, "thread-local"},
		{"a place too far away", func(m *module.Module) {}, far, finding.OutOfRange, "too far"},
		{"another type", func(m *module.Module) { m.Manifest.Go.Types[3].Hash++ }, 0, finding.TypeLayoutChanged, "is not where the module has it"},
		{"a type of another size", func(m *module.Module) { m.Manifest.Go.Types[3].Size++ }, 0, finding.TypeLayoutChanged, "bytes"},
		{"a type of another name", func(m *module.Module) { m.Manifest.Go.Types[3].String += "x" }, 0, finding.TypeLayoutChanged, "there is"},
		{"a type outside the types", func(m *module.Module) { m.Manifest.Go.Types[3].Offset = 1 << 50 }, 0, finding.TypeLayoutChanged, "there is no type"},
		{"another itab", func(m *module.Module) { m.Manifest.Go.Itabs[0].Type = "type:string" }, 0, finding.TypeLayoutChanged, "that one is of the pair"},
		{"an itab that is none", func(m *module.Module) { m.Manifest.Go.Itabs[0].Static = 8 }, 0, finding.TypeLayoutChanged, "there is none"},
		{"an itab that nobody has", func(m *module.Module) { m.Manifest.Go.Itabs[1].Own = "" }, 0, finding.SymbolUnresolved, "brings none"},
		{"an itab of an itab", func(m *module.Module) { m.Manifest.Go.Itabs[1].Type = m.Manifest.Go.Itabs[1].Symbol }, 0, finding.ModuleMalformed, "not the name of one symbol"},
		{"an own itab of another pair", func(m *module.Module) { m.Manifest.Go.Itabs[1].Inter = "type:string" }, 0, finding.ModuleMalformed, "is not of"},
		{"a slot outside the types", func(m *module.Module) { m.Manifest.Go.Methods[0].Offset = -1 << 30 }, 0, finding.ModuleMalformed, "not in the program's types"},
		{"a slot twice", func(m *module.Module) { m.Manifest.Go.Methods[0] = m.Manifest.Go.Methods[1] }, 0, finding.ModuleMalformed, "is none"},
		{"a relocation outside", func(m *module.Module) { m.Relocs[0].Addr = 0x2800 }, 0, finding.ModuleMalformed, "does not have"},
		{"a relocation across the end", func(m *module.Module) { m.Relocs[0].Addr = 0x1ffe }, 0, finding.ModuleMalformed, "does not have"},
		{"a relocation of no symbol", func(m *module.Module) { m.Relocs[0].Symbol = 1 << 20 }, 0, finding.ModuleMalformed, "does not exist"},
		{"a relocation of no type", func(m *module.Module) { m.Relocs[0].Type = elf.R_X86_64_COPY }, 0, finding.ModuleMalformed, "no place in a module"},
		{"a symbol outside", func(m *module.Module) { m.Symbols[0].Addr = 1 << 40 }, 0, finding.ModuleMalformed, "outside the module"},
		{"new code that is data", func(m *module.Module) { m.Symbols[0].Addr = dataAt }, 0, finding.ModuleMalformed, "not in executable memory"},
		{"moduledata outside", func(m *module.Module) { m.Manifest.Go.ModuledataSize = 1 << 62 }, 0, finding.ModuleMalformed, "moduledata"},
		{"writable code", func(m *module.Module) { m.Segments[0].Flags |= elf.PF_W }, 0, finding.ModuleMalformed, "writable and executable"},
		{"a huge segment", func(m *module.Module) { m.Segments[3].Size = 1 << 60 }, 0, finding.ModuleMalformed, "has no place"},
		{"memory without end", func(m *module.Module) {
			m.Segments[3].Size = 1 << 29
			m.Relocs[len(m.Relocs)-1].Addr = 1<<29 - 0x1000
		}, 0, finding.ModuleMalformed, "does not have"},
		{"no segment", func(m *module.Module) { m.Segments = nil }, 0, finding.ModuleMalformed, "no segments"},
		{"a name bound twice", func(m *module.Module) { m.Manifest.Go.Types[1] = m.Manifest.Go.Types[0] }, 0, finding.ModuleMalformed, "twice"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := s.sample(t)
			c.alter(m)
			base := c.base
			if base == 0 {
				base = s.base()
			}
			_, err := Bind(m, s, base)
			if finding.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("got %v\nwant %s that says %q", err, c.code, c.says)
			}
			t.Log(err)
		})
	}
}

func TestBindLeavesTheModuleAsItIs(t *testing.T) {
	s := start(t)
	m, same := s.sample(t), s.sample(t)
	if _, err := Bind(m, s, s.base()); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(m, same) {
		t.Error("Bind has changed the module")
	}
}

func TestCheckTextMasksRelocatedFields(t *testing.T) {
	code := []byte{0xe8, 1, 2, 3, 4, 0xc3}
	masked := []byte{0xe8, 0, 0, 0, 0, 0xc3}
	sum := sha256.Sum256(masked)
	f := Function{Function: module.Function{Symbol: "f", Size: 6, SHA256: hex.EncodeToString(sum[:]), Masked: []module.Field{{Offset: 1, Size: 4}, {Offset: 1 << 31, Size: 255}}}}
	if err := f.CheckText(code); err != nil {
		t.Error(err)
	}
	code[5] = 0xcc
	err := f.CheckText(code)
	if finding.CodeOf(err) != finding.TextMismatch || !strings.Contains(err.Error(), "f: the code at") {
		t.Errorf("got %v", err)
	}
	t.Log(err)
	if code[1] != 1 {
		t.Error("CheckText has changed its argument")
	}
}

func BenchmarkBind(b *testing.B) {
	s := start(b)
	m := s.sample(b)
	// Ten functions with what goes with them in a module that uses much:
	// 5000 relocations against 1000 symbols.
	for i := range 9 {
		f := m.Manifest.Functions[0]
		f.New = "main.new"
		_ = i
		m.Manifest.Functions = append(m.Manifest.Functions, f)
	}
	for _, sym := range s.x.Symbols {
		if len(m.Symbols) == 1000 {
			break
		}
		if _, ok, _ := s.x.Symbol(sym.Name); ok && sym.Type == elf.STT_FUNC {
			m.Symbols = append(m.Symbols, module.Symbol{Name: sym.Name, Type: elf.STT_FUNC, Undefined: true})
		}
	}
	m.Segments[3].Size, m.Segments[3].Data = 0x10000, make([]byte, 0x10000)
	first := len(m.Symbols) - 900
	for i := range 5000 {
		m.Relocs = append(m.Relocs, module.Reloc{Addr: bssAt + 0x2000 + 8*uint64(i), Type: elf.R_X86_64_PC32, Symbol: first + i%900, Addend: -4})
	}
	for b.Loop() {
		if _, err := Bind(m, s, s.base()); err != nil {
			b.Fatal(err)
		}
	}
}
