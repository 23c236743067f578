// Command waits calls a function that does not return, while others run.
package main

import "time"

var ticks int

func forever() { time.Sleep(time.Hour) }

func main() {
	go func() {
		for {
			ticks++
			time.Sleep(time.Millisecond)
		}
	}()
	forever() // step over this
}
