package emit

import (
	"debug/dwarf"
	"debug/elf"
	"testing"

	"github.com/darn-dev/darn/patcher/build/object"
)

// pointerWords returns which words of a variable are pointers by its type in
// the DWARF, nil if it is not there.
func pointerWords(t testing.TB, o *object.Object, sym int) []int {
	t.Helper()
	f, err := elf.Open(o.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	d, err := f.DWARF()
	if err != nil {
		t.Fatal(err)
	}
	r := d.Reader()
	for {
		e, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if e == nil {
			return nil
		}
		if e.Tag == dwarf.TagSubprogram {
			r.SkipChildren()
		}
		if name, _ := e.Val(dwarf.AttrName).(string); e.Tag != dwarf.TagVariable || name != o.Symbols[sym].Name {
			continue
		}
		off, ok := e.Val(dwarf.AttrType).(dwarf.Offset)
		if !ok {
			return nil
		}
		typ, err := d.Type(off)
		if err != nil {
			t.Fatal(err)
		}
		words := []int{}
		pointersOf(typ, 0, &words)
		return words
	}
}

func pointersOf(t dwarf.Type, at int64, words *[]int) {
	switch t := t.(type) {
	case *dwarf.PtrType, *dwarf.FuncType:
		*words = append(*words, int(at/8))
	case *dwarf.TypedefType:
		pointersOf(t.Type, at, words)
	case *dwarf.StructType:
		if t.StructName == "runtime.iface" || t.StructName == "runtime.eface" {
			// Types and itabs are not on the heap.
			*words = append(*words, int(at/8)+1)
			return
		}
		for _, f := range t.Field {
			pointersOf(f.Type, at+f.ByteOffset, words)
		}
	case *dwarf.ArrayType:
		for i := range t.Count {
			pointersOf(t.Type, at+i*t.Type.Size(), words)
		}
	}
}
