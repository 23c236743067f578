package gotype

import (
	"debug/elf"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/darn-dev/darn/patcher/exe"
)

// file is the image that an executable file holds; it is not position
// independent, so that its pointers need no relocation.
type file struct{ *exe.Executable }

func (f file) Bytes(addr uint64, n int) ([]byte, bool) {
	if n < 0 || n > 1<<20 {
		return nil, false
	}
	b := make([]byte, n)
	return b, f.ReadAt(b, addr) == nil
}

func (f file) Pointer(addr uint64) uint64 {
	b, ok := f.Bytes(addr, 8)
	if !ok {
		return 0
	}
	return binary.LittleEndian.Uint64(b)
}

func (f file) Types(uint64) uint64 { return f.TypesStart }

// built is a program that was built, by the text replaced in it.
var built sync.Map

// zoo builds testdata/zoo with text replaced, and returns its types by string.
func zoo(t testing.TB, replace ...string) (*Set, map[string]*Type) {
	t.Helper()
	path, ok := built.Load(strings.Join(replace, "\x00"))
	if !ok {
		path = buildZoo(t, replace)
		built.Store(strings.Join(replace, "\x00"), path)
	}
	x, err := exe.Open(path.(string))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = x.Close() })
	var roots []uint64
	for _, s := range x.Sections {
		if s.Name == ".typelink" && s.Type == elf.SHT_PROGBITS {
			list := make([]byte, s.Size)
			if err := x.ReadAt(list, s.Addr); err != nil {
				t.Fatal(err)
			}
			for ; len(list) >= 4; list = list[4:] {
				roots = append(roots, x.TypesStart+uint64(binary.LittleEndian.Uint32(list)))
			}
		}
	}
	set := NewSet(file{x})
	types := map[string]*Type{}
	if err := set.Walk(roots, func(t *Type) { types[t.String] = t }); err != nil {
		t.Fatal(err)
	}
	if len(types) < 500 {
		t.Fatalf("only %d types", len(types))
	}
	return set, types
}

func buildZoo(t testing.TB, replace []string) string {
	t.Helper()
	dir, err := os.MkdirTemp(scratch, "zoo")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"go.mod", "main.go"} {
		data, err := os.ReadFile(filepath.Join("testdata/zoo", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.NewReplacer(replace...).Replace(string(data))), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", "zoo", ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return filepath.Join(dir, "zoo")
}

var scratch string // a folder for the run

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if scratch, err = os.MkdirTemp("", "gotype-test"); err != nil {
			panic(err)
		}
		defer func() { _ = os.RemoveAll(scratch) }()
		return m.Run()
	}())
}

func TestDecode(t *testing.T) {
	set, types := zoo(t)
	at := func(addr uint64) string {
		x, err := set.At(addr)
		if err != nil {
			t.Fatal(err)
		}
		return x.String
	}
	s := types["main.Sample"]
	if s == nil || s.Kind != Struct || s.PkgPath != "main" || !s.Named() || s.Size != 136 {
		t.Fatalf("main.Sample is %+v", s)
	}
	var fields []string
	for _, f := range s.Fields {
		fields = append(fields, f.Name+" "+at(f.Type)+" "+f.Tag)
	}
	want := []string{`Name string json:"name,omitempty"`, "n int ", "Ptr *main.Sample ", "M map[string][]time.Duration ", "Ch <-chan error ",
		"F func(int, ...string) (bool, error) ", "Any interface {} ", "R io.Reader ", "Arr [3]uint16 ",
		"private struct { x complex128; y complex128 } ", "Base main.Base "}
	if !slices.Equal(fields, want) {
		t.Errorf("fields:\n%q, wanted\n%q", fields, want)
	}
	if f := s.Fields[10]; !f.Embedded || s.Fields[0].Embedded {
		t.Error("the embedded field is not told")
	}
	p := types["*main.Sample"]
	if len(p.Methods) != 2 || p.Methods[0].Name != "Speak" || !p.Methods[0].Reached() || p.Methods[1].Name != "whisper" {
		t.Errorf("methods: %+v", p.Methods)
	}
	if p.Method("", "Speak") != &p.Methods[0] || p.Method("", "whistle") != nil || p.Elem != s.Addr {
		t.Error("method or element of *main.Sample not found")
	}
	i := types["main.Speaker"]
	if i == nil || len(i.IMethods) != 2 || i.IMethods[0].Name != "Speak" || at(i.IMethods[0].Type) != "func(bool) string" || i.PkgPath != "main" {
		t.Errorf("main.Speaker is %+v", i)
	}
	f := types["func(int, ...string) (bool, error)"]
	if f.InCount != 2 || f.OutCount != 2|1<<15 || len(f.Params) != 4 || at(f.Params[1]) != "[]string" {
		t.Errorf("the func is %+v", f)
	}
	m := types["map[string][]time.Duration"]
	if at(m.Key) != "string" || at(m.Elem) != "[]time.Duration" {
		t.Errorf("the map is %+v", m)
	}
	if x := types["main.Big"]; !x.MaskOnDemand() {
		t.Error("main.Big's mask is not made on demand")
	}
	if types["main.Pair[string,*main.Base]"] == nil {
		t.Error("no main.Pair")
	}
}

func TestDescriptorsDoNotOverlap(t *testing.T) {
	_, types := zoo(t)
	var all []*Type
	for _, x := range types {
		all = append(all, x)
	}
	slices.SortFunc(all, func(a, b *Type) int { return int(int64(a.Addr - b.Addr)) })
	for i := 1; i < len(all); i++ {
		if all[i].Addr < all[i-1].End {
			t.Errorf("%s [%#x,%#x) overlaps %s at %#x", all[i-1].String, all[i-1].Addr, all[i-1].End, all[i].String, all[i].Addr)
		}
	}
	for _, x := range all {
		for _, r := range x.Refs {
			if r.Addr < x.Addr || r.Addr+uint64(r.Kind.Width()) > x.End {
				t.Errorf("%s: a reference at %#x lies outside", x.String, r.Addr)
			}
		}
	}
}

func TestEqual(t *testing.T) {
	a, old := zoo(t)
	for _, x := range []struct {
		name, from, to string
		want           string // "": equal
		methods        bool
	}{
		{"nothing", "", "", "", false},
		{"an order of declarations", "// Base is embedded.\ntype Base struct{ ID uint64 }", "type First struct{ a *First }\n\ntype Base struct{ ID uint64 }", "", false},
		{"a field's type", "ID uint64", "ID uint32", "main.Base: its size changed from 8 to 4 bytes", false},
		{"a field's type of the same size", "ID uint64", "ID int64", "int64: it is not uint64", false},
		{"a field's name", "ID uint64", "Id uint64", "main.Base: field Id is where field ID was", false},
		{"a field's tag", "name,omitempty", "name", "main.Sample: the tag of field Name", false},
		{"one more field", "	Base\n}", "	Base\n	More int\n}", "main.Sample: field More was added", false},
		{"a method", "func main() {", "func (s *Sample) Shout() {}\n\nfunc main() {", "*main.Sample: method Shout was added", true},
		{"a parameter deep inside", "F       func(a int, b ...string)", "F       func(a int, b ...[]string)", "is not func(int, ...string) (bool, error)", false},
	} {
		t.Run(x.name, func(t *testing.T) {
			b, now := zoo(t, x.from, x.to)
			err := NewComparer(b, a).Equal(now["*main.Sample"].Addr, old["*main.Sample"].Addr)
			switch d, _ := err.(*Difference); {
			case x.want == "" && err != nil:
				t.Error(err)
			case x.want != "" && (d == nil || !strings.Contains(d.Error(), x.want) || d.MethodSet != x.methods):
				t.Errorf("got %v, wanted %s", err, x.want)
			}
		})
	}
}

func TestEqualComparesAllTypesOfTwoBuilds(t *testing.T) {
	a, old := zoo(t)
	b, now := zoo(t, "s.Speak(true)", "s.Speak(false)")
	c := NewComparer(b, a)
	n := 0
	for name, x := range now {
		y := old[name]
		if y == nil || x.Identity() != y.Identity() {
			continue
		}
		n++
		if err := c.Equal(x.Addr, y.Addr); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n < 500 {
		t.Errorf("only %d types compared", n)
	}
}

func TestAMethodMayBeIgnored(t *testing.T) {
	a, old := zoo(t)
	b, now := zoo(t, "func main() {", "func (s *Sample) Shout() {}\n\nfunc main() {")
	c := NewComparer(b, a)
	c.Ignore = func(x *Type, method string) bool { return x.String == "*main.Sample" && method == "Shout" }
	if err := c.Equal(now["*main.Sample"].Addr, old["*main.Sample"].Addr); err != nil {
		t.Error(err)
	}
}

// flat is an image of some bytes at an address, in which every word is a
// pointer.
type flat []byte

const flatStart = 0x1000

func (f flat) Bytes(addr uint64, n int) ([]byte, bool) {
	if addr < flatStart || addr-flatStart > uint64(len(f)) || n < 0 || uint64(n) > uint64(len(f))-(addr-flatStart) {
		return nil, false
	}
	return f[addr-flatStart:][:n], true
}

func (f flat) Pointer(addr uint64) uint64 {
	if b, ok := f.Bytes(addr, 8); ok {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (f flat) Types(uint64) uint64 { return flatStart }

func FuzzAt(f *testing.F) {
	// A struct with one field, and an interface, at made-up places.
	seed := make([]byte, 512)
	le := binary.LittleEndian
	le.PutUint64(seed, 8)
	seed[20], seed[23] = flagNamed|flagUncommon, byte(Struct)
	le.PutUint32(seed[40:], 256) // name
	le.PutUint64(seed[56:], flatStart+128)
	le.PutUint64(seed[64:], 1)
	le.PutUint64(seed[128:], flatStart+256)
	le.PutUint64(seed[136:], flatStart)
	copy(seed[256:], "\x00\x06main.T")
	f.Add(seed, uint16(0))
	iface := slices.Clone(seed)
	iface[23] = byte(Interface)
	f.Add(iface, uint16(0))
	fn := slices.Clone(seed)
	fn[23], fn[48] = byte(Func), 2
	f.Add(fn, uint16(0))
	f.Fuzz(func(t *testing.T, data []byte, at uint16) {
		set := NewSet(flat(data))
		x, err := set.At(flatStart + uint64(at))
		if err != nil {
			return
		}
		if x.End < x.Addr+sizeType {
			t.Errorf("the descriptor ends at %#x, begins at %#x", x.End, x.Addr)
		}
		_ = set.Walk([]uint64{x.Addr}, func(*Type) {})
		_ = NewComparer(set, set).Equal(x.Addr, x.Addr)
	})
}
