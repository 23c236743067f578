package main

import "fmt"

// centsPerCup is the price of a cup of tea.
const centsPerCup = 235

// order is what a table has drunk.
type order struct {
	cups int
}

// total is what an order costs, in cents.
//
//go:noinline
func total(o order) int {
	return o.cups * centsPerCup
}

// bill says what an order costs.
//
//go:noinline
func bill(o order) string {
	cents := total(o)
	return fmt.Sprintf("%d cups of tea: %d.%d EUR", o.cups, cents/100, cents%100)
}
