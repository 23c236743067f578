// Package main is a web server, for its size.
package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
)

type answer struct {
	Path  string `json:"path"`
	Count int    `json:"count"`
}

var count int

//go:noinline
func respond(w http.ResponseWriter, r *http.Request) error {
	count++
	slog.Info("request", "path", r.URL.Path)
	return json.NewEncoder(w).Encode(answer{r.URL.Path, count})
}

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if err := respond(w, r); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	})
	fmt.Fprintln(os.Stderr, http.ListenAndServe("127.0.0.1:0", nil))
}
