package adapter

import (
	"reflect"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"github.com/go-delve/delve/pkg/dwarf/frame"
	"github.com/go-delve/delve/pkg/proc"
)

// Delve has no way to forget an image. But the memory of a module that was
// unloaded is given to the next one: then breakpoints would be set, stacks
// unwound and variables read by what the last one had there. So what Delve
// knows of a range of addresses is taken out of its tables. The image itself
// stays, for what may still refer to its types, and takes no part any more.

// biFields are the fields of Delve's that are reached into, by their names.
var biFields = func() map[string]reflect.StructField {
	fields := map[string]reflect.StructField{}
	for name, kind := range map[string]reflect.Kind{
		"frameEntries": reflect.Slice, "packageVars": reflect.Slice, "types": reflect.Map,
		"lookupFunc": reflect.Map, "lookupGenericFunc": reflect.Map, "inlinedCallLines": reflect.Map, "dwrapUnwrapCache": reflect.Map,
		"cancelDownloads": reflect.Func, "cancelDownloadsMu": reflect.Struct,
	} {
		f, ok := reflect.TypeFor[proc.BinaryInfo]().FieldByName(name)
		if !ok || f.Type.Kind() != kind {
			panic("darn: this version of Delve keeps " + name + " elsewhere: build with the version in go.mod")
		}
		fields[name] = f
	}
	variable, types := fields["packageVars"].Type.Elem(), fields["types"].Type.Elem()
	addr, ok := variable.FieldByName("addr")
	index, ok2 := types.FieldByName("imageIndex")
	if fields["cancelDownloadsMu"].Type != reflect.TypeFor[sync.Mutex]() || fields["frameEntries"].Type != reflect.TypeFor[frame.FrameDescriptionEntries]() ||
		!ok || addr.Type.Kind() != reflect.Uint64 || !ok2 || index.Type.Kind() != reflect.Int {
		panic("darn: this version of Delve keeps other things: build with the version in go.mod")
	}
	return fields
}()

func biField(bi *proc.BinaryInfo, name string) reflect.Value {
	f := biFields[name]
	return reflect.NewAt(f.Type, unsafe.Add(unsafe.Pointer(bi), f.Offset)).Elem()
}

// noDownloads tells Delve that nothing is being downloaded. Since an image was
// added it is in doubt, and its session answers no pause until the next stop.
func noDownloads(bi *proc.BinaryInfo) {
	mu := biField(bi, "cancelDownloadsMu").Addr().Interface().(*sync.Mutex)
	mu.Lock()
	defer mu.Unlock()
	biField(bi, "cancelDownloads").SetZero()
}

// unloaded ends the path of an image that Delve was made to forget.
const unloaded = " (unloaded)"

// forgetImage takes the image that was added at base out of what Delve knows.
// The target must be halted.
func forgetImage(bi *proc.BinaryInfo, base, size uint64) {
	inside := func(addr uint64) bool { return addr >= base && addr-base < size }
	field := func(name string) reflect.Value { return biField(bi, name) }

	// New slices, since Delve keeps pointers into the old ones.
	var functions []proc.Function
	for _, fn := range bi.Functions {
		if !inside(fn.Entry) && !slices.ContainsFunc(fn.InlinedCalls, func(c proc.InlinedCall) bool { return inside(c.LowPC) }) {
			functions = append(functions, fn)
		}
	}
	bi.Functions = functions
	for _, name := range []string{"lookupFunc", "lookupGenericFunc", "dwrapUnwrapCache"} {
		field(name).Clear()
	}
	field("lookupFunc").SetZero()
	field("lookupGenericFunc").SetZero()
	for addr := range bi.SymNames {
		if inside(addr) {
			delete(bi.SymNames, addr)
		}
	}

	frames := field("frameEntries").Addr().Interface().(*frame.FrameDescriptionEntries)
	*frames = slices.DeleteFunc(slices.Clone(*frames), func(f *frame.FrameDescriptionEntry) bool { return inside(f.Begin()) })

	old := field("packageVars")
	kept := reflect.MakeSlice(old.Type(), 0, old.Len())
	for i := range old.Len() {
		if v := old.Index(i); !inside(v.FieldByName("addr").Uint()) {
			kept = reflect.Append(kept, v)
		}
	}
	old.Set(kept)

	calls := field("inlinedCallLines")
	for _, key := range calls.MapKeys() {
		addrs := calls.MapIndex(key).Interface().([]uint64)
		calls.SetMapIndex(key, reflect.ValueOf(slices.DeleteFunc(slices.Clone(addrs), inside)))
	}

	for index, image := range bi.Images {
		if index == 0 || image.StaticBase != base || strings.HasSuffix(image.Path, unloaded) {
			continue
		}
		image.Path += unloaded // the same may come again, at the same address
		types := field("types")
		for _, key := range types.MapKeys() {
			if types.MapIndex(key).FieldByName("imageIndex").Int() == int64(index) {
				types.SetMapIndex(key, reflect.Value{})
			}
		}
	}
}
