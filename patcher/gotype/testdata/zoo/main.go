// The command zoo has types of all kinds, for tests that decode them.
package main

import (
	"fmt"
	"io"
	"os"
	"time"
)

// Sample has fields of many kinds.
type Sample struct {
	Name    string `json:"name,omitempty"`
	n       int
	Ptr     *Sample
	M       map[string][]time.Duration
	Ch      <-chan error
	F       func(a int, b ...string) (bool, error)
	Any     any
	R       io.Reader
	Arr     [3]uint16
	private struct{ x, y complex128 }
	Base
}

// Base is embedded.
type Base struct{ ID uint64 }

// Speaker is an interface with an exported and an unexported method.
type Speaker interface {
	Speak(loud bool) string
	whisper()
}

// Speak speaks.
func (s *Sample) Speak(loud bool) string { return fmt.Sprint(s.Name, loud, s.n, s.private) }

func (s *Sample) whisper() {}

// Pair is generic.
type Pair[K comparable, V any] struct {
	Key   K
	Value V
}

// Big has a pointer mask too long to be written out.
type Big struct{ list [1 << 16]*Big }

// Mute speaks too.
type Mute struct{}

// Speak says nothing.
func (Mute) Speak(bool) string { return "" }

func (Mute) whisper() {}

func main() {
	speakers := []Speaker{&Sample{}, Mute{}}
	s := speakers[len(os.Args)%2]
	fmt.Println(s.Speak(true), fmt.Sprintf("%T %T %T %T", &s, speakers, Pair[string, *Base]{}, new(Big)))
	s.whisper()
}
