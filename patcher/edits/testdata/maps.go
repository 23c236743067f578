package main

import (
	"fmt"
	"maps"
	"math"
	"slices"
)

// Keys whose equality and hash the compiler writes.
type city struct {
	name string
	at   [2]float64
	_    int32
	tags any
	p    *int
}

type grid [3]city

type sizes struct {
	a uint8
	b uint16
	c uint64
	d [100]byte
}

func checkMaps() error {
	regions := map[city]string{{name: "oslo", at: [2]float64{59.9, 10.7}, tags: 3}: "north"}
	if regions[city{name: "oslo", at: [2]float64{59.9, 10.7}, tags: 3}] != "north" {
		return fmt.Errorf("regions: %v", regions)
	}
	m := map[city]int{}
	n := new(int)
	for i := range 500 {
		c := city{name: fmt.Sprint("c", i%50), at: [2]float64{float64(i % 50), -0.0}, tags: i % 50, p: n}
		m[c] += i
	}
	if len(m) != 50 || m[city{name: "c7", at: [2]float64{7, 0}, tags: 7, p: n}] != 7*10+50*45 {
		return fmt.Errorf("%d keys, %d", len(m), m[city{name: "c7", at: [2]float64{7, 0}, tags: 7, p: n}])
	}
	nan := map[float64]bool{math.NaN(): true, math.NaN(): true, 0: true, math.Copysign(0, -1): false}
	if len(nan) != 3 {
		return fmt.Errorf("%d numbers", len(nan))
	}
	g := map[grid]bool{{{name: "x"}}: true}
	if !g[grid{{name: "x"}}] || g[grid{{name: "y"}}] {
		return fmt.Errorf("grid")
	}
	s := map[sizes]int{}
	for i := range 300 {
		s[sizes{a: uint8(i), d: [100]byte{99: byte(i)}}]++
	}
	if len(s) != 256 {
		return fmt.Errorf("%d sizes", len(s))
	}
	a := map[any]int{1: 1, "1": 2, city{name: "z"}: 3, [2]any{1, "x"}: 4, struct{ a, b string }{"a", "b"}: 5}
	if a[city{name: "z"}] != 3 || a[[2]any{1, "x"}] != 4 || a[struct{ a, b string }{"a", "b"}] != 5 {
		return fmt.Errorf("any: %v", a)
	}
	keys := slices.Sorted(maps.Keys(map[string]struct{}{"b": {}, "a": {}}))
	if !slices.Equal(keys, []string{"a", "b"}) {
		return fmt.Errorf("keys %v", keys)
	}
	for c := range m {
		delete(m, c)
	}
	clear(a)
	if len(m)+len(a) != 0 {
		return fmt.Errorf("not empty")
	}
	err := func() (err error) {
		defer func() { err, _ = recover().(error) }()
		a[[]int{1}]++
		return nil
	}()
	if err == nil || err.Error() != "runtime error: hash of unhashable type []int" {
		return fmt.Errorf("unhashable: %v", err)
	}
	return nil
}

//go:noinline
func freshCode() string {
	if err := checkMaps(); err != nil {
		return err.Error()
	}
	return "maps"
}
