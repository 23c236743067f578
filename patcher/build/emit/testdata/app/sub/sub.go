// Package sub is another package of the program.
package sub

// Table is a variable that patches read.
var Table = map[string]int{"one": 1, "two": 2}

// Twice doubles.
//
//go:noinline
func Twice(n int) int { return 2 * n }
