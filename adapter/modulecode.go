package adapter

import (
	"debug/dwarf"
	"debug/elf"
	"strings"

	builder "github.com/darn-dev/darn/patcher/build"
)

// moduleCode is of which lines and functions a module has code, as its file says:
// it can be asked while the target runs, when Delve can't.
type moduleCode struct {
	lines     map[string]map[int]bool // by the compiler's name of the file
	functions map[string]bool         // by their last names
}

// code reads what a module has code of. One whose file is gone has none that a
// debugger could find.
func (e *edited) code() *moduleCode {
	e.read.Do(func() { e.has = readModuleCode(builder.KeptModule(e.Path, e.Module)) })
	return e.has
}

func readModuleCode(path string) *moduleCode {
	c := &moduleCode{lines: make(map[string]map[int]bool), functions: make(map[string]bool)}
	f, err := elf.Open(path)
	if err != nil {
		return c
	}
	defer f.Close()
	d, err := f.DWARF()
	if err != nil {
		return c
	}
	r := d.Reader()
	for {
		e, err := r.Next()
		if e == nil || err != nil {
			return c
		}
		switch e.Tag {
		case dwarf.TagCompileUnit:
			c.readLines(d, e)
		case dwarf.TagSubprogram:
			if name, ok := e.Val(dwarf.AttrName).(string); ok {
				c.functions[lastName(name)] = true
			}
			if e.Children {
				r.SkipChildren()
			}
		}
	}
}

func (c *moduleCode) readLines(d *dwarf.Data, unit *dwarf.Entry) {
	lines, err := d.LineReader(unit)
	if err != nil || lines == nil {
		return
	}
	var at dwarf.LineEntry
	for lines.Next(&at) == nil {
		if at.File == nil || at.EndSequence {
			continue
		}
		of := c.lines[at.File.Name]
		if of == nil {
			of = make(map[int]bool)
			c.lines[at.File.Name] = of
		}
		of[at.Line] = true
	}
}

// hasFunction tells whether the module may have a function of that name, of which
// the client may have left out the beginning.
func (c *moduleCode) hasFunction(name string) bool { return c.functions[lastName(name)] }

func lastName(name string) string {
	name, _, _ = strings.Cut(name, "[") // of a generic function
	return name[strings.LastIndexAny(name, "./")+1:]
}
