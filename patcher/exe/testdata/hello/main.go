// Package main is a small program with a function to look for.
package main

import "os"

var greeting = "hello"

//go:noinline
func greet(name string) string { return greeting + ", " + name }

func main() { _, _ = os.Stdout.WriteString(greet("world") + "\n") }
