// Command panics ends in a panic.
package main

func main() { panic("out of luck") }
