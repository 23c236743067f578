// Tea writes the bill of a table to a file, again and again, for tests to read.
// It knows nothing of Darn.
package main

import (
	"fmt"
	"os"
	"time"
)

func main() {
	table := order{cups: 3}
	for n := 0; ; n++ {
		text := bill(table)
		if err := write(os.Args[1], text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if n == 0 {
			fmt.Println("the first bill:", text)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// write replaces the file: who reads it never sees half a bill.
func write(path, text string) error {
	if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
