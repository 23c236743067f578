package main

import (
	text "fmt"

	"inits/sub"
)

var last = text.Sprint("last ", total, " ", sub.Ready(), " ", small["total"])
