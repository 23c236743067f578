// Package tested has a test to debug.
package tested

// Sum adds.
func Sum(a, b int) int {
	return a + b // breakpoint here
}
