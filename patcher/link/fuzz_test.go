package link

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"reflect"
	"testing"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/module"
)

// frozen is a Target that consists of some bytes: what a fuzzer needs, and a
// program whose types lie.
type frozen struct {
	types Range
	mem   []byte // of types
}

func (f *frozen) Symbol(name string) (uint64, error) {
	switch name {
	case "":
		return 0, refuse(finding.SymbolUnresolved, name, "none", "")
	case "main.twice":
		return 0, refuse(finding.SymbolAmbiguous, name, "two", "")
	}
	return 0x401000 + uint64(len(name)), nil
}

func (f *frozen) ReadMemory(buf []byte, addr uint64) error {
	if !f.types.Holds(addr, uint64(len(buf))) {
		return errors.New("no such memory")
	}
	copy(buf, f.mem[addr-f.types.Start:])
	return nil
}

func (f *frozen) Text() Range  { return Range{0x401000, 0x500000} }
func (f *frozen) Types() Range { return f.types }
func (f *frozen) IsItab(addr, n uint64) bool {
	return f.types.Holds(addr, n) && addr >= f.types.Start+0x800
}
func (f *frozen) TLSOffset() int64 { return -8 }
func (f *frozen) Itab(inter, typ uint64) (uint64, bool, error) {
	return inter ^ typ, inter&8 == 0, nil
}

func (f *frozen) Module(id string) (Range, bool) { return f.types, id == "loaded" }

// fuzzTarget has one type, "main.T" with hash 7, one interface, "main.I" with
// hash 9, and their itab.
func fuzzTarget() *frozen {
	f := &frozen{types: Range{0x500000, 0x501000}, mem: make([]byte, 0x1000)}
	le := binary.LittleEndian
	typ := func(at, hash, size uint32, kind byte, name string) {
		le.PutUint64(f.mem[at+TypeSize:], uint64(size))
		le.PutUint32(f.mem[at+TypeHash:], hash)
		f.mem[at+TypeKind] = kind
		le.PutUint32(f.mem[at+TypeStr:], at+0x80)
		copy(f.mem[at+0x80:], append([]byte{0, byte(len(name))}, name...))
	}
	typ(0x100, 7, 16, byte(reflect.Struct), "main.T")
	typ(0x200, 9, 16, byte(reflect.Interface), "main.I")
	le.PutUint64(f.mem[0x800+ITabInter:], f.types.Start+0x200)
	le.PutUint64(f.mem[0x800+ITabType:], f.types.Start+0x100)
	le.PutUint32(f.mem[0x800+ITabHash:], 7)
	return f
}

func fuzzModule() *module.Module {
	rodata := make([]byte, 0x200)
	binary.LittleEndian.PutUint32(rodata[0x100+ITabHash:], 7)
	return &module.Module{
		Manifest: module.Manifest{
			Functions: []module.Function{{Symbol: "main.f", New: "main.g", Offset: 6, Size: 16, Masked: []module.Field{{Offset: 1, Size: 4}}}},
			Requires:  []module.Required{{ID: "loaded", Name: "earlier", Size: 0xf00, Text: 0x10}},
			Go: &module.Go{
				Imports:        []module.Import{{Symbol: "main.v", Module: "loaded", Offset: 0x10, Size: 8}},
				ModuledataAddr: 0x5000, ModuledataSize: 0x200, TypesAddr: 0x3000, TextAddr: 0x1000,
				Types: []module.TypeBinding{
					{Symbol: "type:main.T", Offset: 0x100, Hash: 7, Kind: uint8(reflect.Struct), Size: 16, String: "main.T"},
					{Symbol: "type:main.I", Offset: 0x200, Hash: 9, Kind: uint8(reflect.Interface), Size: 16, String: "main.I"},
					{Symbol: "type:main.E", Module: "loaded", Offset: 0x100, Hash: 7, Kind: uint8(reflect.Struct), Size: 16, String: "main.E"},
				},
				Itabs: []module.ItabBinding{
					{Symbol: "go:itab.T,I", HasStatic: true, Static: 0x800, Type: "type:main.T", Inter: "type:main.I", Hash: 7},
					{Symbol: "go:itab.T,J", Type: "type:main.T", Inter: "type:own", Hash: 7, Own: "own"},
				},
				Methods: []module.MethodFill{{Offset: 0x800 + ITabFun, Size: 8, Symbol: "main.g"}, {Offset: 0x300, Size: 4, Symbol: "main.g"},
					{Module: "loaded", Offset: 0x304, Size: 4, Symbol: "main.g"}},
			},
		},
		Segments: []module.Segment{
			{Name: ".text", Addr: 0x1000, Data: make([]byte, 64), Size: 0x1000, Flags: elf.PF_R | elf.PF_X},
			{Name: ".rodata", Addr: 0x3000, Data: rodata, Size: 0x1000, Flags: elf.PF_R},
			{Name: ".data", Addr: 0x5000, Data: make([]byte, 0x300), Size: 0x1000, Flags: elf.PF_R | elf.PF_W},
		},
		Symbols: []module.Symbol{
			{Name: "main.g", Type: elf.STT_FUNC, Addr: 0x1000, Size: 16},
			{Name: "own", Type: elf.STT_OBJECT, Addr: 0x3100, Size: 32},
			{Name: "type:own", Type: elf.STT_OBJECT, Addr: 0x3000, Size: 48},
			{Name: "type:main.T", Type: elf.STT_OBJECT, Undefined: true},
			{Name: "type:main.I", Type: elf.STT_OBJECT, Undefined: true},
			{Name: "go:itab.T,I", Type: elf.STT_OBJECT, Undefined: true},
			{Name: "go:itab.T,J", Type: elf.STT_OBJECT, Undefined: true},
			{Name: "runtime.tlsg", Type: elf.STT_TLS, Undefined: true},
			{Name: "main.h", Type: elf.STT_FUNC, Undefined: true},
			{Name: "main.v", Type: elf.STT_OBJECT, Undefined: true},
			{Name: "type:main.E", Type: elf.STT_OBJECT, Undefined: true},
		},
		Relocs: []module.Reloc{
			{Addr: 0x1001, Type: elf.R_X86_64_PC32, Symbol: 8, Addend: -4},
			{Addr: 0x1009, Type: elf.R_X86_64_TPOFF32, Symbol: 7},
			{Addr: 0x3100 + ITabInter, Type: elf.R_X86_64_64, Symbol: 2},
			{Addr: 0x3100 + ITabType, Type: elf.R_X86_64_64, Symbol: 3},
			{Addr: 0x5200, Type: elf.R_X86_64_64, Symbol: 5},
			{Addr: 0x5208, Type: elf.R_X86_64_64, Symbol: 6},
			{Addr: 0x5210, Type: elf.R_X86_64_64, Symbol: 9},
			{Addr: 0x5218, Type: elf.R_X86_64_64, Symbol: 10},
			{Addr: 0x5ff8, Type: elf.R_X86_64_RELATIVE, Symbol: -1, Addend: 0x1000},
		},
	}
}

// leaves returns everything in v that can be set: numbers, strings, flags, and
// slices, whose ends can be cut off.
func leaves(v reflect.Value) []reflect.Value {
	var out []reflect.Value
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			out = leaves(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				out = append(out, leaves(v.Field(i))...)
			}
		}
	case reflect.Slice:
		out = append(out, v)
		if v.Type().Elem().Kind() != reflect.Uint8 {
			for i := range v.Len() {
				out = append(out, leaves(v.Index(i))...)
			}
		}
	default:
		out = append(out, v)
	}
	return out
}

// lie makes one field of a module say something else.
func lie(v reflect.Value, value uint64, names []string) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(names[value%uint64(len(names))])
	case reflect.Bool:
		v.SetBool(value&1 != 0)
	case reflect.Slice:
		v.SetLen(int(value % uint64(v.Len()+1)))
	default:
		if v.CanInt() {
			v.SetInt(int64(value))
		} else if v.CanUint() {
			v.SetUint(value)
		}
	}
}

// FuzzBind binds modules in which some fields lie: bytes of two for the field,
// eight for what it says, again and again. Whatever they say, Bind answers, and
// the image stays in its place.
func FuzzBind(f *testing.F) {
	f.Add([]byte{})
	for field := range len(leaves(reflect.ValueOf(fuzzModule()))) {
		for _, value := range []uint64{0, 1, 8, 0x1000, 1 << 31, 1 << 40, 1<<63 - 1, 1<<64 - 1} {
			f.Add(binary.LittleEndian.AppendUint64([]byte{byte(field), byte(field >> 8)}, value))
		}
	}
	target := fuzzTarget()
	names := []string{"", "main.twice", "main.f", "runtime.unreachableMethod", "loaded"}
	for _, s := range fuzzModule().Symbols {
		names = append(names, s.Name)
	}
	f.Fuzz(func(t *testing.T, lies []byte) {
		m := fuzzModule()
		lies = lies[:min(len(lies), 200)]
		for ; len(lies) >= 10; lies = lies[10:] {
			fields := leaves(reflect.ValueOf(m))
			lie(fields[int(binary.LittleEndian.Uint16(lies))%len(fields)], binary.LittleEndian.Uint64(lies[2:]), names)
		}
		const base = 0x10000000
		image, err := Bind(m, target, base)
		if err != nil {
			if finding.CodeOf(err) == "" {
				t.Fatalf("no refusal: %v", err)
			}
			return
		}
		end := image.Base
		for _, s := range image.Segments {
			if s.Addr < end || uint64(len(s.Data)) > s.Size || s.Size > module.MaxImage || s.Addr+s.Size > image.Base+image.Size {
				t.Fatalf("segment at %#x, %#x bytes (%#x of data) in an image at %#x, %#x bytes", s.Addr, s.Size, len(s.Data), image.Base, image.Size)
			}
			end = s.Addr + s.Size
		}
		for _, w := range image.Fills {
			if len(w.Old) != len(w.New) || !target.types.Holds(w.Addr, uint64(len(w.New))) {
				t.Fatalf("a fill at %#x: % x for % x", w.Addr, w.New, w.Old)
			}
		}
		in := Range{image.Base, image.Base + image.Size}
		for _, f := range image.Functions {
			if !in.Holds(f.New, 1) || !target.Text().Holds(f.Entry, f.Size) {
				t.Fatalf("%#x is replaced by %#x", f.Entry, f.New)
			}
		}
		for _, i := range image.Itabs {
			if !in.Holds(i.Addr, ITabFun) {
				t.Fatalf("an itab at %#x", i.Addr)
			}
		}
	})
}
