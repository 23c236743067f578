// Package store is a package of the program beside main.
package store

import (
	"fmt"
	"sync"
)

// Rate is so small that it is inlined wherever it is called.
func Rate(n int) int { return n * 10 }

// Charge calls Rate.
//
//go:noinline
func Charge(n int) string { return fmt.Sprintf("charge %d", Rate(n)+1) }

// Item is a key.
type Item struct {
	Name  string
	Shelf [2]uint8
}

// Stock counts items.
type Stock struct {
	mu sync.RWMutex
	n  map[Item]int
}

// New returns a filled Stock.
func New() *Stock {
	return &Stock{n: map[Item]int{{"pen", [2]uint8{1, 2}}: 7, {"ink", [2]uint8{1, 3}}: 5}}
}

// Count counts an item.
func (s *Stock) Count(i Item) int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.n[i]
}

// Label describes the stock of an item.
func (s *Stock) Label(i Item) string {
	if n := s.Count(i); n > 0 {
		return fmt.Sprintf("%s: %d", i.Name, n)
	}
	return i.Name + ": none"
}

// names are looked up by Name.
var names = map[int]string{1: "one", 2: "two"}

// Name spells a number.
func Name(n int) string {
	if s, ok := names[n]; ok {
		return s
	}
	return "many"
}

// Limit is too short for a jump.
//
//go:noinline
func Limit() int { return 0 }

// Limit is, too, and called through an interface.
//
//go:noinline
func (s *Stock) Limit() int { return 0 }

// None is, too, and kept in Limits.
//
//go:noinline
func None() int { return 0 }

// Limits are called by their number.
var Limits = []func() int{None}
