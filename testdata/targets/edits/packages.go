package main

import (
	"encoding/hex"
	"fmt"

	"edits/store"

	"example.com/dep"
)

func packages() {
	stock := store.New()
	steady("rate", func() string { return fmt.Sprint(store.Rate(2), " ", store.Charge(2), " ", small(1)) })
	steady("stock", func() string {
		return stock.Label(store.Item{Name: "pen", Shelf: [2]uint8{1, 2}}) + " " + stock.Label(store.Item{Name: "cap"})
	})
	var limited interface{ Limit() int } = stock
	steady("limit", func() string { return fmt.Sprint(store.Limit(), limited.Limit(), store.Limits[0]()) })
	steady("normal", func() string { return dep.Normalize(" Some  WORDS ") })
	steady("hex", func() string { return hex.EncodeToString([]byte{1, 255}) })
	steady("name", func() string { return store.Name(1) + store.Name(9) })
}

//go:noinline
func small(n int) string { return fmt.Sprint("small ", store.Rate(n)) }
