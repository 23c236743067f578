// Package greet knows how to greet.
package greet

import _ "embed"

//go:embed word.txt
var word string

// Greeting greets somebody.
//
//go:noinline
func Greeting(name string) string {
	if name == "" {
		name = "world"
	}
	return word + ", " + name + mark()
}
