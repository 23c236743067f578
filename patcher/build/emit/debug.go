package emit

import (
	"slices"
	"strings"

	"github.com/darn-dev/darn/patcher/build/emit/debuginfo"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/module"
)

// debugSections are those that the Go toolchain writes and that tell something
// about a patch, up to Go 1.24 and since.
var debugSections = []string{"abbrev", "info", "line", "frame", "addr", "loc", "ranges", "loclists", "rnglists"}

// debug gives the module debugging information. A patch without is as good a
// patch, so failing is no more than a finding.
func (b *builder) debug() error {
	if err := b.writeDebug(); err != nil {
		why := err.Error()
		if r := finding.As(err); r != nil {
			why = r.Findings[0].Message
		}
		b.findings = append(b.findings, finding.Finding{Code: finding.UnsupportedBuild, Severity: finding.Warning,
			Message: "debuggers can't see into the patch: " + why,
			Advice:  "load it nevertheless; report this with the version of the Go toolchain"})
	}
	return nil
}

// writeDebug follows what is owned through New's DWARF.
func (b *builder) writeDebug() error {
	from, err := b.New.DWARF(func(sym int) uint64 {
		if addr := b.new.symbol(sym); addr != 0 {
			return addr
		}
		return b.New.Symbols[sym].Offset
	}, debugSections...)
	if err != nil {
		return err
	}
	p := debuginfo.Patch{
		Variable: func(addr uint64) (uint64, bool) {
			return b.movedPart(segData, addr)
		},
		// Since Go 1.11 a type's entry has the offset of its descriptor from
		// the start of all, also up to Go 1.24, whose linker calls it an address.
		Type: func(off uint64) (uint64, bool) {
			if !b.types.own[b.new.types+off] {
				return 0, false
			}
			return b.moved(b.new.types+off) - b.segStart(segRodata), true
		},
	}
	for fn := range b.owned {
		addr := b.new.symbol(fn)
		p.Functions = append(p.Functions, debuginfo.Function{Addr: addr, Size: b.New.Symbols[fn].Size, To: b.moved(addr)})
	}
	for _, t := range b.thunkNames {
		p.Stubs = append(p.Stubs, debuginfo.Range{Addr: b.moved(t.addr), Size: thunkSize})
	}
	to, err := debuginfo.Rewrite(from, p)
	if err != nil {
		return err
	}
	for name, data := range to {
		b.out.Debug = append(b.out.Debug, module.Section{Name: ".debug_" + name, Data: data})
	}
	slices.SortFunc(b.out.Debug, func(x, y module.Section) int { return strings.Compare(x.Name, y.Name) })
	return nil
}

// movedPart returns where in the module a part of New is, if it is a part of an
// owned piece of the segment.
func (b *builder) movedPart(seg segment, lo uint64) (uint64, bool) {
	p := b.laid[seg].at(lo)
	if p == nil || lo-p.lo >= p.size {
		return 0, false
	}
	return p.addr + lo - p.lo, true
}
