package main

import "fmt"

// centsPerCup is the price of a cup of tea.
const centsPerCup = 235

// bill says what cups cost.
func bill(cups int) string {
	total := cups * centsPerCup
	return fmt.Sprintf("%d cups of tea: %d.%02d EUR", cups, total/100, total%100)
}
