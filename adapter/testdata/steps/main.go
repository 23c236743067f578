// Command steps does the same in every run, in one goroutine.
package main

import (
	"fmt"
	"os"
)

type point struct {
	X, Y int
	Name string
}

func (p point) add(o point) point {
	sum := point{p.X + o.X, p.Y + o.Y, p.Name} // inside add
	return sum
}

func double(n int) int {
	return 2 * n
}

func main() {
	numbers := []int{1, 2, 3}
	words := map[string]int{"one": 1}
	p := point{1, 2, "first"}
	fmt.Println("begin", len(os.Args)) // begin
	for i := range numbers {
		numbers[i] = double(numbers[i]) // in the loop
	}
	p = p.add(point{3, 4, "second"})
	fmt.Println("end", numbers, words, p) // end
	os.Exit(3)
}
