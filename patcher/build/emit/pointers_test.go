package emit

import (
	"debug/dwarf"
	"debug/elf"
	"testing"

	"github.com/darn-dev/darn/patcher/build/object"
)

// variables are the variables in the DWARF of an object.
type variables struct {
	data  *dwarf.Data
	types map[string]dwarf.Offset // by name
}

func readVariables(t testing.TB, o *object.Object) *variables {
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
	v := &variables{d, map[string]dwarf.Offset{}}
	for r := d.Reader(); ; {
		e, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if e == nil {
			return v
		}
		if e.Tag == dwarf.TagSubprogram {
			r.SkipChildren()
		}
		name, _ := e.Val(dwarf.AttrName).(string)
		if off, ok := e.Val(dwarf.AttrType).(dwarf.Offset); ok && e.Tag == dwarf.TagVariable {
			v.types[name] = off
		}
	}
}

// pointers returns which words of a variable are pointers by its type; ok is
// false for a variable that the DWARF does not know.
func (v *variables) pointers(t testing.TB, name string) (words []int, ok bool) {
	t.Helper()
	off, ok := v.types[name]
	if !ok {
		return nil, false
	}
	typ, err := v.data.Type(off)
	if err != nil {
		t.Fatal(err)
	}
	pointersOf(typ, 0, &words)
	return words, true
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
