package main

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unique"
	"unsafe"
	"weak"
)

type resource struct {
	id   int
	data [8]*resource
	name string
}

var (
	finalized, cleaned atomic.Int64
	shared             atomic.Pointer[resource]
	counters           sync.Map
	buffers            = sync.Pool{New: func() any { return &resource{name: "pooled"} }}
	once               sync.Once
)

//go:noinline
func makeGarbage(i int) weak.Pointer[resource] {
	r := &resource{id: i, name: fmt.Sprint("r", i)}
	r.data[0] = &resource{id: i + 1}
	runtime.SetFinalizer(r, func(r *resource) {
		if r.name == fmt.Sprint("r", r.id) && r.data[0].id == r.id+1 {
			finalized.Add(1)
		}
	})
	c := new(resource)
	runtime.AddCleanup(c, func(id int) { cleaned.Add(int64(id)) }, 1)
	return weak.Make(r)
}

func checkMemory() error {
	before, cleanedBefore := finalized.Load(), cleaned.Load()
	w := makeGarbage(7)
	for range 500 {
		runtime.GC()
		if finalized.Load() > before && cleaned.Load() > cleanedBefore && w.Value() == nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if finalized.Load() == before || cleaned.Load() == cleanedBefore || w.Value() != nil {
		return errors.New("nothing was finalized")
	}
	p := buffers.Get().(*resource)
	if p.name != "pooled" {
		return fmt.Errorf("the pool has %s", p.name)
	}
	buffers.Put(p)
	shared.Store(p)
	id := 0
	once.Do(func() { shared.Store(&resource{id: 42}) })
	if f := sync.OnceValue(func() int { id = 42; return id }); shared.Load() == nil || f()+f() != 84 {
		return errors.New("atomics")
	}
	n, _ := counters.LoadOrStore(resourceKey{1, "a"}, new(atomic.Int64))
	n.(*atomic.Int64).Add(1)
	if unique.Make(resourceKey{2, "b"}) != unique.Make(resourceKey{2, "b"}) {
		return errors.New("unique")
	}
	b := []byte("bytes of its own")
	s := unsafe.String(&b[0], len(b))
	h := unsafe.Slice((*resource)(unsafe.Pointer(p)), 1)
	if s[9:] != "its own"[0:0]+s[9:] || &h[0] != p || unsafe.Sizeof(resource{}) != 88 || *(*string)(unsafe.Add(unsafe.Pointer(p), unsafe.Offsetof(p.name))) != "pooled" {
		return errors.New("unsafe")
	}
	// Garbage of all sizes, with pointers into it.
	var keep [64]any
	for i := range 2000 {
		switch i % 5 {
		case 0:
			keep[i%64] = &resource{id: i, data: [8]*resource{7: {id: i}}}
		case 1:
			keep[i%64] = make([]*resource, i)
		case 2:
			keep[i%64] = map[resourceKey]*resource{{i, "x"}: {id: i}}
		case 3:
			keep[i%64] = func() int { return i + len(keep) }
		case 4:
			keep[i%64] = [3000]byte{2: byte(i)}
		}
		if f, ok := keep[(i+13)%64].(func() int); ok && f() > 3000 {
			return errors.New("closure")
		}
		if r, ok := keep[(i+1)%64].(*resource); ok && r.data[7].id != r.id {
			return fmt.Errorf("%d is not %d", r.data[7].id, r.id)
		}
	}
	return nil
}

type resourceKey struct {
	n int
	s string
}

//go:noinline
func freshCode() string {
	if err := checkMemory(); err != nil {
		return err.Error()
	}
	return "memory"
}
