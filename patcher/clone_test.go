package patcher

import (
	"fmt"
	"reflect"
	"testing"
)

// TestACloneSharesNothing: what a transition changes in its copy of the registry
// must not be seen in the one that is valid until it commits.
func TestACloneSharesNothing(t *testing.T) {
	r := new(registry)
	fillValue(t, reflect.ValueOf(r).Elem(), new(int))
	c := r.clone()
	if !reflect.DeepEqual(r, c) {
		t.Fatalf("the copy is\n%+v\nof\n%+v", c, r)
	}
	addresses := map[uintptr]string{}
	visitMemory(reflect.ValueOf(r), "", func(at uintptr, path string) { addresses[at] = path })
	if len(addresses) < 30 {
		t.Fatalf("only %d pieces of memory were filled: %v", len(addresses), addresses)
	}
	visitMemory(reflect.ValueOf(c), "", func(at uintptr, path string) {
		if of, ok := addresses[at]; ok {
			t.Errorf("%s of the copy is %s of the original", path, of)
		}
	})
	if empty := new(registry); !reflect.DeepEqual(empty.clone(), empty) {
		t.Errorf("the copy of an empty one is %+v", empty.clone())
	}
}

// fillValue gives everything a value, each another one.
func fillValue(t *testing.T, v reflect.Value, n *int) {
	t.Helper()
	*n++
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillValue(t, v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fillValue(t, v.Index(i), n)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if !v.Field(i).CanSet() {
				t.Fatalf("%s of %s would not be kept in a process", v.Type().Field(i).Name, v.Type())
			}
			fillValue(t, v.Field(i), n)
		}
	case reflect.String:
		v.SetString(fmt.Sprint(*n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int:
		v.SetInt(int64(*n))
	case reflect.Uint64:
		v.SetUint(uint64(*n))
	case reflect.Uint8:
		v.SetUint(uint64(byte(*n)))
	default:
		t.Fatalf("no value for a %s", v.Type())
	}
}

// visitMemory calls f with the address of all memory that v refers to.
func visitMemory(v reflect.Value, path string, f func(at uintptr, path string)) {
	switch v.Kind() {
	case reflect.Pointer:
		f(v.Pointer(), path)
		visitMemory(v.Elem(), path, f)
	case reflect.Slice:
		f(v.Pointer(), path)
		for i := range v.Len() {
			visitMemory(v.Index(i), fmt.Sprintf("%s[%d]", path, i), f)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			visitMemory(v.Field(i), path+"."+v.Type().Field(i).Name, f)
		}
	}
}
