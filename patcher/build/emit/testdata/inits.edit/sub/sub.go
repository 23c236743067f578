// Package sub has a word.
package sub

import (
	"strings"
	"sync/atomic"
)

// Calls counts the calls of Word.
var Calls atomic.Int64

var ready = strings.ToLower(loud)
var loud = strings.ToUpper("ready")

// Ready returns what was computed first.
func Ready() string { return ready }

// Word returns a word.
//
//go:noinline
func Word() string {
	if Calls.Add(1) < 0 {
		panic(Calls.Load())
	}
	return " word that is " + ready + " "
}
