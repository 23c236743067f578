package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// progress returns a function that shows on w how far a long operation is,
// and one that wipes that away. Both do nothing unless w is a terminal.
func progress(w io.Writer) (show func(stage string, done, total int), wipe func()) {
	if p, ok := w.(plain); ok {
		w = p.Writer
	}
	if !isTerminal(w) {
		return func(string, int, int) {}, func() {}
	}
	const wipeLine = "\r\x1b[K"
	show = func(stage string, done, total int) {
		fmt.Fprint(w, wipeLine+stage)
		if total > 0 {
			fmt.Fprintf(w, " %d/%d", done, total)
		}
	}
	return show, func() { fmt.Fprint(w, wipeLine) }
}

// progressLines returns a function that writes to w, for a program that reads it,
// how far a long operation is: lines of JSON.
func progressLines(w io.Writer) func(stage string, done, total int) {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return func(stage string, done, total int) {
		// Nobody may be listening.
		_ = encoder.Encode(struct {
			Stage string `json:"stage"`
			Done  int    `json:"done"`
			Total int    `json:"total"` // 0 if it is not known
		}{stage, done, total})
	}
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}
