// Package sub is imported by the program.
package sub

import "time"

//go:noinline
func Text() string { return "text of sub" }

//go:noinline
func Clock() int64 { return time.Now().Unix() }
