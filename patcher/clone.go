package patcher

import (
	"slices"

	"github.com/darn-dev/darn/patcher/goruntime"
	"github.com/darn-dev/darn/patcher/link"
)

// clone returns a deep copy, on which a transition works until it commits. It is
// written out, since every toggle makes one.
func (r *registry) clone() *registry {
	c := *r
	c.Patches = clones(r.Patches, (*patchRecord).copyTo)
	c.Redirects = clones(r.Redirects, (*redirectRecord).copyTo)
	c.Blocks, c.Data, c.Lost = slices.Clone(r.Blocks), slices.Clone(r.Data), slices.Clone(r.Lost)
	c.Runtime.Modules = clones(r.Runtime.Modules, copyRegistration)
	c.Runtime.Retired = slices.Clone(r.Runtime.Retired)
	if r.Pending != nil {
		p := *r.Pending
		p.Writes, p.Switches = cloneWrites(p.Writes), slices.Clone(p.Switches)
		c.Pending = &p
	}
	return &c
}

// clones returns copies of records; copyTo makes that to which it is given the
// address, all bytes of which are the original's, share nothing with that.
func clones[T any](records []*T, copyTo func(record, to *T)) []*T {
	if records == nil {
		return nil
	}
	memory, c := make([]T, len(records)), make([]*T, len(records))
	for i, r := range records {
		memory[i], c[i] = *r, &memory[i]
		copyTo(r, c[i])
	}
	return c
}

func (p *patchRecord) copyTo(c *patchRecord) {
	c.Functions = clones(p.Functions, (*functionRecord).copyTo)
	if p.Go != nil {
		g := *p.Go
		copyRegistration(p.Go, &g)
		c.Go = &g
	}
	if p.Init != nil {
		init := *p.Init
		c.Init = &init
	}
	c.Findings, c.Requires = slices.Clone(p.Findings), slices.Clone(p.Requires)
}

func (f *functionRecord) copyTo(c *functionRecord) {
	c.Pieces, c.Lost = slices.Clone(f.Pieces), slices.Clone(f.Lost)
}

func (d *redirectRecord) copyTo(c *redirectRecord) {
	c.Old, c.Now, c.Stack = slices.Clone(d.Old), slices.Clone(d.Now), slices.Clone(d.Stack)
}

func copyRegistration(m, c *goruntime.Registration) {
	c.Segments, c.Text = slices.Clone(m.Segments), slices.Clone(m.Text)
	c.Fills, c.Entries = cloneWrites(m.Fills), slices.Clone(m.Entries)
}

func cloneWrites(writes []link.Write) []link.Write {
	c := slices.Clone(writes)
	for i, w := range c {
		c[i].Old, c[i].New = slices.Clone(w.Old), slices.Clone(w.New)
	}
	return c
}
