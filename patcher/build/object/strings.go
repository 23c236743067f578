package object

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"slices"
	"sort"

	"github.com/darn-dev/darn/patcher/redirect"
)

// stringTable knows where strings start in go:string.*, in which the linker
// keeps all string constants without saying how long each is.
type stringTable struct {
	section int
	lo, hi  uint64   // of go:string.* in the section
	starts  []uint64 // offsets in the section, sorted
	known   []known  // strings whose length is known, by offset and length
}

// known is a string that a string header in data describes.
type known struct{ offset, length uint64 }

// stringTable returns the object's, made once.
func (o *Object) stringTable() *stringTable {
	o.stringsOnce.Do(func() { o.strings = o.findStrings() })
	return &o.strings
}

// findStrings takes as starts what pointers in data and address computations
// in code (lea) refer to. Code that loads from a string without taking its
// address may do so anywhere within it.
func (o *Object) findStrings() (t stringTable) {
	for i, s := range o.Symbols {
		if s.Name == "go:string.*" && s.Container && o.Content(i) != nil {
			t.section, t.lo, t.hi = o.Symbols[i].Section, s.Offset, s.Offset+s.Size
		}
	}
	if t.section == 0 {
		return t
	}
	for i := range o.Sections {
		sec := &o.Sections[i]
		for k := range sec.Relocs {
			r := &sec.Relocs[k]
			if r.Target.Section != t.section || r.Target.Offset < t.lo || r.Target.Offset >= t.hi {
				continue
			}
			lea := i == o.Text && r.Offset >= 2 && sec.Data[r.Offset-2] == 0x8d && sec.Data[r.Offset-1]&0xc7 == 0x05
			if r.Type == elf.R_X86_64_64 || lea {
				t.starts = append(t.starts, r.Target.Offset)
			}
			if i != o.Text && r.Type == elf.R_X86_64_64 && r.Offset+16 <= uint64(len(sec.Data)) {
				if n := binary.LittleEndian.Uint64(sec.Data[r.Offset+8:]); n > 0 && n <= t.hi-r.Target.Offset {
					t.known = append(t.known, known{r.Target.Offset, n})
				}
			}
		}
	}
	slices.Sort(t.starts)
	t.starts = slices.Compact(t.starts)
	slices.SortFunc(t.known, func(a, b known) int { return cmp.Or(cmp.Compare(a.offset, b.offset), cmp.Compare(a.length, b.length)) })
	t.known = ascending(t.known)
	return t
}

// ascending returns the longest part of the list in which lengths never
// decrease. The linker sorts strings by length; what does not fit is a part of
// a string, or no string at all.
func ascending(list []known) []known {
	var tails []int // tails[k] ends the best run of k+1 so far
	before := make([]int, len(list))
	for i, s := range list {
		k := sort.Search(len(tails), func(k int) bool { return list[tails[k]].length > s.length })
		before[i] = -1
		if k > 0 {
			before[i] = tails[k-1]
		}
		if k == len(tails) {
			tails = append(tails, i)
		} else {
			tails[k] = i
		}
	}
	if len(tails) < len(list)*9/10 {
		return nil // not sorted by length after all
	}
	run, last := make([]known, len(tails)), 0
	for k := len(run) - 1; k >= 0; k-- {
		if k == len(run)-1 {
			last = tails[k]
		}
		run[k], last = list[last], before[last]
	}
	return run
}

// longest returns the most bytes that a string at off may have: as many as the
// next one whose length is known, for they are sorted by it.
func (t *stringTable) longest(off uint64) uint64 {
	i := sort.Search(len(t.known), func(i int) bool { return t.known[i].offset >= off })
	if i < len(t.known) {
		return t.known[i].length
	}
	return t.hi - off
}

// distances returns how far the next starts lie behind off, nearest first.
func (t *stringTable) distances(off uint64) []uint64 {
	const most = 16 // how far a string is looked for beyond starts within it
	i := sort.Search(len(t.starts), func(i int) bool { return t.starts[i] > off })
	var d []uint64
	for ; i < len(t.starts) && len(d) < most; i++ {
		d = append(d, t.starts[i]-off)
	}
	return append(d, t.hi-off)
}

// sameString compares two string constants whose length is not known. It is no
// longer than a known string behind it, and than the way to the next start in
// either object; but a start may lie within it, if the program slices the
// constant. Then it is as long as the way to a later start that mayBe its
// length. With mayBe nil, a load at the place is compared, not the string.
func sameString(base, new *Object, b, n Place, mayBe func(length uint64) bool) bool {
	bt, nt := base.stringTable(), new.stringTable()
	if b.Section != bt.section || b.Offset < bt.lo || b.Offset >= bt.hi || n.Section != nt.section || n.Offset < nt.lo || n.Offset >= nt.hi {
		return false
	}
	bd, nd := bt.distances(b.Offset), nt.distances(n.Offset)
	x, y := base.Sections[b.Section].Data[b.Offset:bt.hi], new.Sections[n.Section].Data[n.Offset:nt.hi]
	same := func(length uint64) bool { return bytes.Equal(x[:length], y[:length]) }
	if mayBe == nil {
		const widest = 16 // bytes that compiled code loads at once
		return same(min(widest, bd[0], nd[0]))
	}
	longest := min(bt.longest(b.Offset), nt.longest(n.Offset))
	if !same(min(bd[0], nd[0], longest)) {
		return false
	}
	for _, d := range append(bd, nd...) {
		if d <= longest && !same(d) && mayBe(d) {
			return false
		}
	}
	return true
}

// lastWords returns a function that tells whether a number ends an instruction
// of the code, as a constant operand does.
func lastWords(code []byte) func(uint64) bool {
	var words map[uint64]bool
	return func(n uint64) bool {
		if words == nil {
			words = map[uint64]bool{}
			for off := 0; off < len(code); {
				l, err := redirect.Length(code[off:])
				if err != nil {
					break
				}
				off += l
				if l > 4 {
					words[uint64(binary.LittleEndian.Uint32(code[off-4:]))] = true
				}
				words[uint64(code[off-1])] = true
			}
		}
		return words[n]
	}
}
