package object

import (
	"debug/gosym"
	"fmt"
)

// Source returns the file and line of a function's first instruction, from the
// object's own line table, which is read once, for this.
func (o *Object) Source(fn int) (file string, line int, err error) {
	o.linesOnce.Do(func() { o.lines, o.linesErr = o.readLines() })
	if o.linesErr != nil {
		return "", 0, o.linesErr
	}
	file, line, f := o.lines.PCToLine(o.Symbols[fn].Offset)
	if f == nil {
		return "", 0, fmt.Errorf("%s: no line known for %s", o.Path, o.Symbols[fn].Name)
	}
	return file, line, nil
}

func (o *Object) readLines() (*gosym.Table, error) {
	for i := range o.Sections {
		switch s := &o.Sections[i]; s.Name {
		case ".gopclntab", ".data.rel.ro.gopclntab":
			return gosym.NewTable(nil, gosym.NewLineTable(s.Data, 0))
		}
	}
	return nil, fmt.Errorf("%s: no Go line table", o.Path)
}
