package patcher

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/darn-dev/darn/patcher/arena"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/goruntime"
	"github.com/darn-dev/darn/patcher/redirect"
)

// registryVersion changes with the layout of registry.
const registryVersion = 4

// registry is what Darn remembers inside the target, so that the next Darn
// that attaches can list, toggle and unload, or undo what a killed one left
// half done. It is saved whole before and after every step; the arena makes a
// save atomic.
type registry struct {
	Version   int               `json:"version"`
	Sequence  int               `json:"sequence"`  // of the last patch loaded
	Patches   []*patchRecord    `json:"patches"`   // in the order of loading
	Redirects []*redirectRecord `json:"redirects"` // in the order of their entries
	Blocks    []block           `json:"blocks"`    // of stubs and pads
	Data      []block           `json:"data"`      // of the runtime's lists
	// Lost is the memory of loads that were rolled back after the program had
	// run with a part of them: whether anything refers to it nobody knows.
	Lost    []block            `json:"lost,omitempty"`
	Runtime goruntime.Ledger   `json:"runtime"`
	Pending *pendingTransition `json:"pending,omitempty"`
}

// patchRecord is a patch as the registry keeps it. Whether it is active is
// not kept: the switch itself says so.
type patchRecord struct {
	ID        string                  `json:"id"`
	Name      string                  `json:"name"`
	Path      string                  `json:"path"`
	Module    string                  `json:"module"` // sha256 of the module file
	Base      uint64                  `json:"base"`
	Size      uint64                  `json:"size"`
	Switch    uint64                  `json:"switch"`
	Functions []*functionRecord       `json:"functions"`
	Go        *goruntime.Registration `json:"go,omitempty"`
	Findings  []finding.Finding       `json:"findings,omitempty"`
	Init      *initRecord             `json:"init,omitempty"`
	// Led tells that it stands on its redirects' stacks only for its
	// initialisation, and was not activated yet.
	Led bool `json:"led,omitempty"`
	// Requires are the modules (their sha256) that it shares things with, which
	// have to stay as long as it.
	Requires []string `json:"requires,omitempty"`
}

// functionRecord is one replaced function of a patch.
type functionRecord struct {
	Symbol  string `json:"symbol"`
	Entry   uint64 `json:"entry"`
	Size    uint64 `json:"size"` // of the old code, bytes
	New     uint64 `json:"new"`
	NewSize uint64 `json:"newSize"`
	// Bridge is where calls of the new code go first; 0 if they go there.
	Bridge uint64 `json:"bridge,omitempty"`
	Source string `json:"source,omitempty"`
	// Pieces are what of the old code a C compiler put elsewhere.
	Pieces []goruntime.Range `json:"pieces,omitempty"`
	// Lost is where other code of the program's is that calls of the function may
	// be in and no call of the new one runs. Its entries are not redirected, so
	// that who has kept a closure that lies there may still call it.
	Lost     []goruntime.Range `json:"lost,omitempty"`
	Encoding redirect.Encoding `json:"encoding"`
	// Stub is written when the patch comes onto the redirect's Stack, and the thunk
	// behind it when the patch is loaded; 0 with a direct redirect.
	Stub uint64 `json:"stub,omitempty"`
	// Marked tells whether the stub knows the goroutines that initialise the patch.
	Marked bool `json:"marked,omitempty"`
	// Pad is a jump to Stub, beside it, or with a direct redirect to the new code;
	// 0 if the entry leads straight there.
	Pad uint64 `json:"pad,omitempty"`
	// OldFrames counts the frames in code that the function replaces, when that
	// was last looked at; notCounted if it was not since the activation.
	OldFrames int `json:"oldFrames,omitempty"`
}

// direct is where a direct redirect leads.
func (f *functionRecord) direct() uint64 {
	if f.Pad != 0 {
		return f.Pad
	}
	return f.called()
}

// called is where calls of the new code go.
func (f *functionRecord) called() uint64 {
	if f.Bridge != 0 {
		return f.Bridge
	}
	return f.New
}

// redirectRecord is one entry of the target that Darn changes.
type redirectRecord struct {
	Entry    uint64            `json:"entry"`
	Encoding redirect.Encoding `json:"encoding"`
	Offset   int               `json:"offset"` // of the jump, from Entry
	Span     int               `json:"span"`   // of the instructions it covers, bytes
	Single   bool              `json:"single"` // it lies in the first instruction
	// Stored tells of a direct redirect that one store writes it.
	Stored bool   `json:"stored,omitempty"`
	Old    []byte `json:"old"` // the bytes it overwrites
	// Pad is a redirect.FarJump to the uppermost stub, at a place where one store can make the
	// entry lead; 0 if the stubs are where it can lead.
	Pad uint64 `json:"pad,omitempty"`
	// Why says why the entry can't be written by one store, if it can't.
	Why string `json:"why,omitempty"`
	// Now holds the bytes that stand at Entry+Offset, equal to Old while the
	// redirect is not written.
	Now []byte `json:"now"`
	// Stack holds the ids of the patches on this entry, the one that is asked
	// first last: in the order of their first activations, and behind them those
	// that are Led, so that what initialises runs its own patch's code.
	Stack []string `json:"stack"`
}

// at is where the jump is written.
func (d *redirectRecord) at() uint64 { return d.Entry + uint64(d.Offset) }

// inside is where nobody may be when the jump is written: in the middle of what
// it covers.
func (d *redirectRecord) inside() goruntime.Range {
	return goruntime.Range{Start: d.at() + 1, End: d.at() + uint64(d.Span)}
}

// newRedirect records a plan that is not carried out yet.
func newRedirect(p *redirect.Plan) *redirectRecord {
	return &redirectRecord{
		Entry: p.Entry, Encoding: p.Encoding, Offset: p.Offset,
		Span: p.Span, Single: p.Single, Old: p.Old, Now: p.Old,
	}
}

// jump returns the bytes for the entry that lead to to.
func (d *redirectRecord) jump(to uint64) ([]byte, error) {
	return (&redirect.Plan{Entry: d.Entry, Offset: d.Offset}).Jump(to)
}

// function returns the record of p's function at entry, nil if there is none.
func (p *patchRecord) function(entry uint64) *functionRecord {
	i := slices.IndexFunc(p.Functions, func(f *functionRecord) bool { return f.Entry == entry })
	if i < 0 {
		return nil
	}
	return p.Functions[i]
}

// pendingTransition is the write-ahead record of a transition: everything it
// writes into memory that the target had before Darn came, and the switches.
type pendingTransition struct {
	Operation Operation         `json:"operation"`
	Patch     string            `json:"patch"`
	Writes    []goruntime.Write `json:"writes"`
	// Switches are those that it sets, in the positions that they had.
	Switches []arena.Position `json:"switches,omitempty"`
}

// patch returns the record with the given id, or a Refusal not-loaded.
func (r *registry) patch(id string) (*patchRecord, error) {
	for _, p := range r.Patches {
		if p.ID == id {
			return p, nil
		}
	}
	ids := make([]string, len(r.Patches))
	for i, p := range r.Patches {
		ids[i] = p.ID
	}
	advice := "load it first"
	if len(ids) > 0 {
		advice = fmt.Sprintf("loaded are: %v", ids)
	}
	return nil, finding.Refuse(finding.NotLoaded, fmt.Sprintf("no patch %q is loaded in this process", id), advice)
}

// redirect returns the record of the redirect at entry, or nil.
func (r *registry) redirect(entry uint64) *redirectRecord {
	i, found := r.findRedirect(entry)
	if !found {
		return nil
	}
	return r.Redirects[i]
}

// findRedirect returns where in Redirects the one at entry is, or has to be.
func (r *registry) findRedirect(entry uint64) (i int, found bool) {
	return slices.BinarySearchFunc(r.Redirects, entry, func(d *redirectRecord, entry uint64) int { return cmp.Compare(d.Entry, entry) })
}

// addRedirect adds a record, of an entry that has none.
func (r *registry) addRedirect(d *redirectRecord) {
	i, _ := r.findRedirect(d.Entry)
	r.Redirects = slices.Insert(r.Redirects, i, d)
}

// empty tells whether nothing is left in the arena that may be referred to.
func (r *registry) empty() bool { return len(r.Patches) == 0 && len(r.Lost) == 0 }

// save writes r to the arena.
func (r *registry) save(a *arena.Arena) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return a.Save(data)
}

// parseRegistry reads a registry written by save.
func parseRegistry(data []byte) (*registry, error) {
	r := new(registry)
	if err := json.Unmarshal(data, r); err != nil {
		return nil, damaged("%v", err)
	}
	if r.Version != registryVersion {
		return nil, finding.Refuse(finding.UnsupportedTarget,
			fmt.Sprintf("the registry in the target has version %d, this darn knows %d", r.Version, registryVersion),
			"use the darn that patched the program, or restart the program")
	}
	return r, r.check()
}

// damaged refuses a registry that save can't have written.
func damaged(format string, args ...any) error {
	return finding.Refuse(finding.UnsupportedTarget,
		"the registry in the target can't be read: "+fmt.Sprintf(format, args...),
		"it was damaged or written by something else; restart the program to patch it")
}

// check makes sure of what everything else relies on. The target's owner can
// write into the registry.
func (r *registry) check() error {
	if slices.Contains(r.Patches, nil) || slices.Contains(r.Redirects, nil) || slices.Contains(r.Runtime.Modules, nil) {
		return damaged("a record is missing")
	}
	// It may be long: each record is looked at once.
	redirects := make(map[uint64]*redirectRecord, len(r.Redirects))
	for _, d := range r.Redirects {
		redirects[d.Entry] = d
	}
	patches := make(map[string]map[uint64]bool, len(r.Patches)) // entries by id
	for i, p := range r.Patches {
		switch {
		case p.ID == "" || p.Size == 0 || p.Go == nil || p.Go.Base != p.Base:
			return damaged("patch %d of it is none", i)
		case patches[p.ID] != nil:
			return damaged("patch %s is there twice", p.ID)
		}
		patches[p.ID] = make(map[uint64]bool, len(p.Functions))
		for _, f := range p.Functions {
			if f == nil {
				return damaged("a function of patch %s is none", p.ID)
			}
			patches[p.ID][f.Entry] = true
			if d := redirects[f.Entry]; d == nil || (f.Stub == 0) != (d.Encoding == redirect.DirectEncoding) {
				return damaged("%s of patch %s has no redirect", f.Symbol, p.ID)
			}
			if f.Pad != 0 && f.Stub != 0 && slotOf(f.Pad) != slotOf(f.Stub) {
				return damaged("the pad of %s of patch %s is not beside its stub", f.Symbol, p.ID)
			}
		}
	}
	for i, d := range r.Redirects {
		if i > 0 && r.Redirects[i-1].Entry >= d.Entry {
			return damaged("its redirects are out of order")
		}
		if d.Offset < 0 || d.Offset > redirect.JumpSize || d.Span < 1 || d.Span < redirect.JumpSize && d.Encoding != redirect.SingleEncoding && !d.Stored || d.Span > slotSize ||
			len(d.Old) != redirect.JumpSize || len(d.Now) != redirect.JumpSize {
			return damaged("redirect %d of it is none", i)
		}
		for _, id := range d.Stack {
			if !patches[id][d.Entry] {
				return damaged("the redirect at %#x leads to patch %q, which does not have it", d.Entry, id)
			}
		}
	}
	return r.checkPlaces()
}
