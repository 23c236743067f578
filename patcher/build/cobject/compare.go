package cobject

import (
	"bytes"
	"debug/dwarf"
	"debug/elf"
	"slices"
	"strings"

	"github.com/ianlancetaylor/demangle"
)

// Comparison is what an edit made of one source file.
type Comparison struct {
	Base, New *Object
	// Pairs leads from the sections of New to those of Base that they come from.
	Pairs map[int]int

	same  map[[2]int]bool
	doubt map[string]bool // names of variables that can't be told apart
}

// Compare compares two objects. base may be nil: all is new then.
func Compare(base, now *Object) *Comparison {
	c := &Comparison{Base: base, New: now, Pairs: map[int]int{}, same: map[[2]int]bool{}, doubt: map[string]bool{}}
	if base == nil {
		return c
	}
	old := base.named()
	for key, sections := range now.named() {
		c.pair(key, old[key], sections)
	}
	return c
}

// named returns the sections of functions and variables by what they are.
func (o *Object) named() map[string][]int {
	found := map[string][]int{}
	for i := range o.Sections {
		switch {
		case o.IsFunction(i):
			name := o.Name(i)
			if IsClone(name) {
				name = plainName(name)
			}
			found["function "+name] = append(found["function "+name], i)
		case o.IsVariable(i):
			name := o.Name(i)
			if o.Symbols[o.Main(i)].Bind == elf.STB_LOCAL {
				name = plainName(name)
			}
			found["variable "+name] = append(found["variable "+name], i)
		}
	}
	return found
}

// pair pairs the sections that have one name. Of several, as the static variables
// of several functions, those are paired that the same functions use.
func (c *Comparison) pair(key string, old, now []int) {
	if len(old) == 1 && len(now) == 1 {
		c.Pairs[now[0]] = old[0]
		return
	}
	if len(old) == 0 {
		return
	}
	users := func(o *Object, sections []int) map[string][]int {
		by := map[string][]int{}
		for _, s := range sections {
			by[o.users(s)] = append(by[o.users(s)], s)
		}
		return by
	}
	before := users(c.Base, old)
	for user, sections := range users(c.New, now) {
		if len(sections) == 1 && len(before[user]) == 1 && user != "" {
			c.Pairs[sections[0]] = before[user][0]
			continue
		}
		if strings.HasPrefix(key, "variable ") {
			for _, s := range sections {
				c.doubt[c.New.Name(s)] = true
			}
		}
	}
}

// users names the functions that refer to a section.
func (o *Object) users(section int) string {
	var names []string
	for i := range o.Sections {
		if !o.IsFunction(i) || i == section {
			continue
		}
		for _, r := range o.Sections[i].Relocs {
			if o.place(r).section == section {
				names = append(names, plainName(o.Name(i)))
				break
			}
		}
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), " ")
}

// Same tells whether a section of New and one of Base have the same content and
// lead to the same.
func (c *Comparison) Same(now, base int) bool {
	key := [2]int{now, base}
	if same, known := c.same[key]; known {
		return same
	}
	c.same[key] = true // what leads back here does not decide
	same := c.equal(now, base)
	if !same {
		for k, known := range c.same { // what was found on that assumption
			if known {
				delete(c.same, k)
			}
		}
	}
	c.same[key] = same
	return same
}

func (c *Comparison) equal(now, base int) bool {
	n, b := &c.New.Sections[now], &c.Base.Sections[base]
	if n.Size != b.Size || n.Type != b.Type || !bytes.Equal(n.Data, b.Data) || len(n.Relocs) != len(b.Relocs) {
		return false
	}
	for i := range n.Relocs {
		x, y := n.Relocs[i], b.Relocs[i]
		if x.Offset != y.Offset || x.Type != y.Type || !c.samePlace(c.New.place(x), c.Base.place(y)) {
			return false
		}
	}
	return true
}

// samePlace tells whether two places are the same one.
func (c *Comparison) samePlace(n, b place) bool {
	if n.section == 0 || b.section == 0 {
		return n.addend == b.addend && c.external(c.New, n) == c.external(c.Base, b) && c.external(c.New, n) != ""
	}
	if n.addend != b.addend {
		return false
	}
	if c.New.anonymous(n.section) || c.Base.anonymous(b.section) {
		return c.sameContent(n, b)
	}
	if n.at != b.at {
		return false
	}
	if old, paired := c.Pairs[n.section]; !paired || old != b.section {
		return false
	}
	// A version that the compiler made has no interface that stays the same.
	return !c.New.IsFunction(n.section) || !IsClone(c.New.Name(n.section)) || c.Same(n.section, b.section)
}

// external returns the name by which other files know a place, "" if they don't.
func (c *Comparison) external(o *Object, p place) string {
	if p.section == 0 {
		return p.name
	}
	n := o.Main(p.section)
	if n == 0 || o.Symbols[n].Bind == elf.STB_LOCAL || p.at != o.Symbols[n].Value {
		return ""
	}
	return o.Symbols[n].Name
}

// sameContent compares what is at two places in read-only data.
func (c *Comparison) sameContent(n, b place) bool {
	x, y := &c.New.Sections[n.section], &c.Base.Sections[b.section]
	if x.Flags&elf.SHF_MERGE == 0 || y.Flags&elf.SHF_MERGE == 0 {
		return x.Flags == y.Flags && n.at == b.at && c.Same(n.section, b.section)
	}
	piece := func(s *Section, at uint64) []byte {
		if at > uint64(len(s.Data)) {
			return nil
		}
		data := s.Data[at:]
		width := int(max(s.Entry, 1))
		if s.Flags&elf.SHF_STRINGS == 0 {
			return data[:min(width, len(data))]
		}
		for i := 0; i+width <= len(data); i += width {
			if bytes.Count(data[i:i+width], []byte{0}) == width {
				return data[:i]
			}
		}
		return data
	}
	return x.Flags == y.Flags && x.Entry == y.Entry && bytes.Equal(piece(x, n.at), piece(y, b.at))
}

// Changed returns the functions of New that Base has too, with other code. Those
// that the compiler made of others are not among them: what uses them is.
func (c *Comparison) Changed() (sections []int) {
	for i := range c.New.Sections {
		if base, paired := c.Pairs[i]; paired && c.New.IsFunction(i) && !IsClone(c.New.Name(i)) && !c.Same(i, base) {
			sections = append(sections, i)
		}
	}
	return sections
}

// Why says in words what is the first difference of a changed function.
func (c *Comparison) Why(now int) string {
	n, b := &c.New.Sections[now], &c.Base.Sections[c.Pairs[now]]
	if n.Size != b.Size || !bytes.Equal(n.Data, b.Data) || len(n.Relocs) != len(b.Relocs) {
		return "its code changed"
	}
	for i := range n.Relocs {
		p := c.New.place(n.Relocs[i])
		if c.samePlace(p, c.Base.place(b.Relocs[i])) {
			continue
		}
		name := c.New.describe(p)
		base, _, _ := strings.Cut(name, ".")
		switch {
		case p.section != 0 && c.New.anonymous(p.section):
			return "a constant that it uses changed"
		case base == c.New.Name(now):
			return "its code changed"
		case p.section != 0 && c.New.IsFunction(p.section) && IsClone(name):
			return "it has code of " + demangle.Filter(base) + ", which changed"
		default:
			return "it uses " + demangle.Filter(name)
		}
	}
	return "its code changed"
}

// describe names a place.
func (o *Object) describe(p place) string {
	if p.section == 0 {
		return p.name
	}
	if name := o.Name(p.section); name != "" {
		return name
	}
	return o.Sections[p.section].Name
}

// Doubtful tells whether a section of New is a variable of which it is not known
// which one of Base it is.
func (c *Comparison) Doubtful(section int) bool {
	return c.doubt[c.New.Name(section)] && c.New.IsVariable(section)
}

// Leads returns the sections that one leads to.
func (o *Object) Leads(section int) (sections []int) {
	for _, r := range o.Sections[section].Relocs {
		if to := o.place(r).section; to != 0 {
			sections = append(sections, to)
		}
	}
	slices.Sort(sections)
	return slices.Compact(sections)
}

// Constructors returns the functions that run before main.
func (o *Object) Constructors() (sections []int) {
	for i := range o.Sections {
		if s := &o.Sections[i]; s.Type == elf.SHT_INIT_ARRAY || strings.HasPrefix(s.Name, ".ctors") {
			sections = append(sections, o.Leads(i)...)
		}
	}
	return sections
}

// Producer is what compiled the object, "" if that is not known.
func (o *Object) Producer() string {
	d := o.DWARF()
	if d == nil {
		return ""
	}
	if e, err := d.Reader().Next(); err == nil && e != nil {
		text, _ := e.Val(dwarf.AttrProducer).(string)
		return text
	}
	return ""
}
