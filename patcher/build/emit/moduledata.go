package emit

import (
	"debug/dwarf"
	"fmt"

	"github.com/darn-dev/darn/patcher/exe"
	"github.com/darn-dev/darn/patcher/finding"
)

// moduledataLayout is where the fields of the target's runtime.moduledata are;
// it differs between Go versions.
type moduledataLayout struct {
	size   uint64
	offset map[string]uint64
}

// required are the fields that every supported Go version has.
var required = []string{
	"pcHeader", "funcnametab", "cutab", "filetab", "pctab", "pclntable", "ftab", "findfunctab", "minpc", "maxpc",
	"text", "etext", "noptrdata", "enoptrdata", "data", "edata", "bss", "ebss", "noptrbss", "enoptrbss", "covctrs", "ecovctrs",
	"end", "types", "etypes", "rodata", "gofunc", "typelinks", "gcdatamask", "gcbssmask", "next",
}

// readModuledataLayout reads the layout from the target's DWARF.
func readModuledataLayout(x *exe.Executable) (*moduledataLayout, error) {
	d, err := x.DWARF()
	if err != nil {
		return nil, err
	}
	r := d.Reader()
	for {
		e, err := r.Next()
		if err != nil {
			return nil, err
		}
		if e == nil {
			return nil, finding.Refuse(finding.UnsupportedTarget, "the target's DWARF does not describe runtime.moduledata",
				"build the target with Go 1.24, 1.25 or 1.26, without -ldflags=-w")
		}
		if name, _ := e.Val(dwarf.AttrName).(string); e.Tag == dwarf.TagStructType && name == "runtime.moduledata" {
			return moduledataStruct(d, e.Offset)
		}
		if e.Tag == dwarf.TagSubprogram {
			r.SkipChildren()
		}
	}
}

func moduledataStruct(d *dwarf.Data, off dwarf.Offset) (*moduledataLayout, error) {
	t, err := d.Type(off)
	if err != nil {
		return nil, err
	}
	s, ok := t.(*dwarf.StructType)
	if !ok {
		return nil, fmt.Errorf("the target's runtime.moduledata is %v", t)
	}
	l := &moduledataLayout{size: uint64(s.ByteSize), offset: map[string]uint64{}}
	for _, f := range s.Field {
		l.offset[f.Name] = uint64(f.ByteOffset)
	}
	for _, name := range required {
		if _, ok := l.offset[name]; !ok {
			return nil, finding.Refuse(finding.UnsupportedTarget, "the target's runtime.moduledata has no field "+name,
				"build the target with Go 1.24, 1.25 or 1.26")
		}
	}
	return l, nil
}
