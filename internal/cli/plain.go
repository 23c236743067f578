package cli

import (
	"bytes"
	"io"
	"unicode"
)

// plain is a writer of text in which a program, a module or a file may have put
// what a terminal would obey: such characters come out as question marks. What is
// written at once has whole characters.
type plain struct{ io.Writer }

func (p plain) Write(text []byte) (int, error) {
	safe := bytes.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return '?'
		}
		return r
	}, text)
	if _, err := p.Writer.Write(safe); err != nil {
		return 0, err
	}
	return len(text), nil
}
