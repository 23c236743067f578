// Package sub has a word.
package sub

import "sync/atomic"

// Calls counts the calls of Word.
var Calls atomic.Int64

// Word returns a word.
//
//go:noinline
func Word() string {
	if Calls.Add(1) < 0 {
		panic(Calls.Load())
	}
	return " word "
}
