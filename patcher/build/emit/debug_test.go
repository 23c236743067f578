package emit

import (
	"debug/dwarf"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/go-delve/delve/pkg/dwarf/frame"
	"github.com/go-delve/delve/pkg/dwarf/godwarf"
	"github.com/go-delve/delve/pkg/dwarf/loclist"

	"github.com/darn-dev/darn/patcher/build/object"
	"github.com/darn-dev/darn/patcher/finding"
)

// reading is DWARF as others read it: package debug/dwarf and Delve.
type reading struct {
	*dwarf.Data
	sections map[string][]byte
	frames   frame.FrameDescriptionEntries
}

func read(t *testing.T, sections map[string][]byte) *reading {
	t.Helper()
	d, err := dwarf.New(sections["abbrev"], nil, nil, sections["info"], sections["line"], nil, sections["ranges"], nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"addr", "rnglists"} {
		if sections[name] != nil {
			if err := d.AddSection(".debug_"+name, sections[name]); err != nil {
				t.Fatal(err)
			}
		}
	}
	r := &reading{Data: d, sections: sections}
	if r.frames, err = frame.Parse(sections["frame"], binary.LittleEndian, 0, 8, 0); err != nil {
		t.Fatal(err)
	}
	return r
}

// function is a function's entry, and that of its unit.
type function struct {
	*reading
	unit, entry *dwarf.Entry
	low, high   uint64
}

// functions returns the concrete functions by their addresses.
func (r *reading) functions(t *testing.T) map[uint64]*function {
	t.Helper()
	found := map[uint64]*function{}
	var unit *dwarf.Entry
	for rd := r.Reader(); ; rd.SkipChildren() {
		e, err := rd.Next()
		if err != nil {
			t.Fatal(err)
		}
		if e == nil {
			return found
		}
		for e.Tag == dwarf.TagCompileUnit {
			unit = e
			if e, err = rd.Next(); err != nil || e == nil {
				t.Fatal(err)
			}
		}
		if e.Tag != dwarf.TagSubprogram || e.Val(dwarf.AttrInline) != nil {
			continue
		}
		ranges, err := r.Ranges(e)
		if err != nil || len(ranges) != 1 {
			t.Fatalf("the function at %#x has the ranges %v, %v", e.Offset, ranges, err)
		}
		found[ranges[0][0]] = &function{r, unit, e, ranges[0][0], ranges[0][1]}
	}
}

// describe writes all that is known about a function; addresses count from it.
func (f *function) describe(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	lines, err := f.LineReader(f.unit)
	if err != nil {
		t.Fatal(err)
	}
	files := lines.Files()
	rd := f.Reader()
	rd.Seek(f.entry.Offset)
	for depth := 0; ; {
		e, err := rd.Next()
		if err != nil {
			t.Fatal(err)
		}
		if e.Tag == 0 {
			if depth--; depth == 0 {
				break
			}
			continue
		}
		fmt.Fprintf(&b, "%*s%v%s\n", depth, "", e.Tag, f.attributes(t, e, files, true))
		if e.Children {
			depth++
		} else if depth == 0 {
			break
		}
	}
	fmt.Fprintln(&b, "lines:")
	var row dwarf.LineEntry
	for within := false; lines.Next(&row) == nil; {
		if row.Address >= f.low && row.Address < f.high {
			within = true
		}
		if within {
			fmt.Fprintf(&b, "%#x %s:%d stmt %v prologue end %v end %v\n", row.Address-f.low, row.File.Name, row.Line, row.IsStmt, row.PrologueEnd, row.EndSequence)
		}
		within = within && !row.EndSequence
	}
	fde, err := f.frames.FDEForPC(f.low)
	if err != nil {
		t.Fatal(err)
	}
	for pc := f.low; pc < f.high; pc++ {
		c, err := fde.EstablishFrame(pc)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&b, pc-f.low, c.CFA)
	}
	return b.String()
}

// attributes describes an entry. References are followed as far as deep says.
func (f *function) attributes(t *testing.T, e *dwarf.Entry, files []*dwarf.LineFile, deep bool) string {
	t.Helper()
	var b strings.Builder
	for _, a := range e.Field {
		value := fmt.Sprint(a.Val)
		switch a.Attr {
		case dwarf.AttrLowpc, dwarf.AttrHighpc, dwarf.AttrRanges:
			continue // below
		case dwarf.AttrDeclFile, dwarf.AttrCallFile:
			value = files[a.Val.(int64)].Name
		case dwarf.AttrLocation:
			if off, ok := a.Val.(int64); ok {
				value = f.locations(t, int(off))
			}
		case dwarf.AttrType:
			typ, err := f.Type(a.Val.(dwarf.Offset))
			if err != nil {
				t.Fatal(err)
			}
			value = fmt.Sprint(typ, " ", typ.Size(), " ", typ.Common().Name)
		case dwarf.AttrAbstractOrigin:
			rd := f.Reader()
			rd.Seek(a.Val.(dwarf.Offset))
			origin, err := rd.Next()
			if err != nil {
				t.Fatal(err)
			}
			value = "{" + f.attributes(t, origin, nil, false) + "}"
		}
		fmt.Fprintf(&b, " %v=%s", a.Attr, value)
	}
	if deep {
		ranges, err := f.Ranges(e)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range ranges {
			fmt.Fprintf(&b, " [%#x,%#x)", r[0]-f.low, r[1]-f.low)
		}
	}
	return b.String()
}

// locations tells for each byte of the function where a variable is there.
func (f *function) locations(t *testing.T, off int) string {
	t.Helper()
	var list loclist.Reader = loclist.NewDwarf2Reader(f.sections["loc"], 8)
	base, _ := f.unit.Val(dwarf.AttrLowpc).(uint64)
	var addr *godwarf.DebugAddr
	if f.sections["loclists"] != nil {
		list = loclist.NewDwarf5Reader(f.sections["loclists"])
		addr = godwarf.ParseAddr(f.sections["addr"]).GetSubsection(uint64(f.unit.Val(dwarf.AttrAddrBase).(int64)))
	}
	var b strings.Builder
	last := ""
	for pc := f.low; pc < f.high; pc++ {
		e, err := list.Find(off, 0, base, pc, addr)
		if err != nil {
			t.Fatal(err)
		}
		now := ""
		if e != nil {
			now = fmt.Sprintf("%x", e.Instr)
		}
		if now != last {
			fmt.Fprintf(&b, " %#x:%s", pc-f.low, now)
			last = now
		}
	}
	return b.String()
}

// What the module's DWARF says about each function must be what the program's
// says.
func TestDebuggersReadTheSameAboutAPatchAsAboutTheProgram(t *testing.T) {
	for _, build := range []struct {
		name string
		p    *program
	}{{"plain", plain}, {"not optimised", noInline}, {"PIE", pie}, {"cgo", withC}} {
		t.Run(build.name, func(t *testing.T) {
			in := build.p.input(t, whole(t, "everything.go"))
			m, _, err := Emit(in)
			if err != nil {
				t.Fatal(err)
			}
			sections, err := in.New.DWARF(func(sym int) uint64 { return in.New.Symbols[sym].Offset }, debugSections...)
			if err != nil {
				t.Fatal(err)
			}
			want := read(t, sections).functions(t)
			sections = map[string][]byte{}
			for _, s := range m.Debug {
				sections[strings.TrimPrefix(s.Name, ".debug_")] = s.Data
			}
			got := read(t, sections).functions(t)
			n := 0
			for _, s := range m.Symbols {
				name := strings.TrimSuffix(s.Name, "#new")
				i := in.New.Named(name)
				if s.Undefined || s.Type != elf.STT_FUNC || len(i) != 1 {
					continue
				}
				w, g := want[in.New.Symbols[i[0]].Offset], got[s.Addr]
				if w == nil {
					continue // the compiler says nothing about it either
				}
				if g == nil {
					t.Errorf("the module's DWARF does not know %s", s.Name)
					continue
				}
				n++
				if w, g := w.describe(t), g.describe(t); w != g {
					t.Errorf("%s is not what it was:\n%s", s.Name, firstDifference(w, g))
				}
			}
			if n < 20 {
				t.Errorf("only %d functions were compared", n)
			}
		})
	}
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(w), len(g)) {
		if w[i] != g[i] {
			return "got  " + g[i] + "\nwant " + w[i]
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(g), len(w))
}

func TestAPatchWithoutDebuggingInformationIsSaidToBeOne(t *testing.T) {
	stripped := &program{flags: []string{"-ldflags=-w"}}
	o, err := object.Open(stripped.capture(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	b := &builder{Input: &Input{New: o}}
	if b.new, err = newSpace(o); err != nil {
		t.Fatal(err)
	}
	if err := b.debug(); err != nil {
		t.Fatal(err)
	}
	want := "debuggers can't see into the patch: the object has no debugging information (DWARF)"
	if len(b.findings) != 1 || b.findings[0].Severity != finding.Warning || !strings.HasPrefix(b.findings[0].Message, want) {
		t.Errorf("it is said %v, want %q", b.findings, want)
	}
}
