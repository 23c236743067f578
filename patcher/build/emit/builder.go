package emit

import (
	"debug/elf"
	"errors"
	"fmt"
	"strings"

	"github.com/darn-dev/darn/patcher/build/object"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/gotype"
	"github.com/darn-dev/darn/patcher/module"
)

// builder is one run of Emit. Its stages first decide what the module owns
// (following every reference from the changed functions on), then lay that out
// and write it.
type builder struct {
	*Input
	out      *module.Module
	findings []finding.Finding

	base, new *space
	earlier   []*earlier
	types     *types
	varTypes  map[string]string // see variableTypes
	typesAt   map[uint64]uint64 // Base's types, by the target's addresses
	lines     *lineTable        // New's
	md        *moduledataLayout

	changed map[int]int // new function -> base function whose entry leads to it
	owned   map[int]bool
	todo    []int // owned functions whose references are still to be followed

	spans  [segments][]span // owned parts of New
	have   map[span]bool
	fixups map[uint64]fixup // by the address of the field
	fresh  uint64           // next fresh address
	made   [segments][]*piece

	symbols   map[string]int // undefined symbols of the module, by name
	defined   map[string]bool
	thunks    map[dest]uint64 // to functions of the target, by destination
	itabs     map[pair]dest
	itabSlots map[dest]uint64           // see itabSlot
	constants map[int]map[uint64]uint64 // see constantEnd

	baseItabs  map[pair]int // Base's symbols, by Base's addresses
	labels     []label
	names      map[int]string // of owned functions, in the module
	thunkNames []thunkName

	shared  map[string]*piece // variables of the initialisation, by name
	standIn map[int]uint64    // New's symbol -> where the shared variable is
	// Where the value of the function InitStart and the variable InitState are, 0
	// if nothing is initialised.
	initStart, initState uint64

	filled map[slot]bool
	// relocated are the target's pointers that are relocated when it starts.
	relocated map[uint64]bool
	wraps     map[int]dest // by function of New: what it wraps

	laid   [segments]pieces
	starts [segments]uint64
	text   struct{ lo, hi uint64 } // of the functions
	ends   struct{ rodata, noptrdata, enoptrdata, data, edata, bss, ebss, noptrbss, end uint64 }
	places []placed

	moduledata, typelinks, dataMask, bssMask *piece

	tables struct { // offsets in piece
		piece                                  *piece
		names, enames, cutab, files, efiles    uint64
		pcs, epcs, funcs, efuncs, gofunc, find uint64
		count, cus                             int
	}
}

// dest is where a reference leads: to a place of the module, given by where it
// comes from, or to a symbol of the target.
type dest struct {
	symbol int    // index in out.Symbols; -1: in the module
	addr   uint64 // in New's space or fresh
	off    int64  // from the symbol
}

// own returns the dest of something in the module.
func own(addr uint64) dest { return dest{symbol: -1, addr: addr} }

// fixKind is how a field is computed.
type fixKind uint8

const (
	fixAbs     fixKind = iota + 1 // 8 bytes: the address
	fixPC                         // 4 bytes: the address plus adj minus the field's
	fixTLS                        // 4 bytes: the offset of a thread-local variable from the thread pointer
	fixTypeOff                    // 4 bytes, from runtime.types
	fixNameOff                    // the same, always to a name in the module
	fixTextOff                    // 4 bytes, from runtime.text, always to a function in the module
)

// fixup is a field of the module to be computed when everything has its place.
type fixup struct {
	kind fixKind
	to   dest
	adj  int64
	load bool // fixPC: the lea before the field is to be a load
}

func newBuilder(in *Input) (*builder, error) {
	b := &builder{
		Input: in, out: &module.Module{},
		changed: map[int]int{}, owned: map[int]bool{}, have: map[span]bool{}, fixups: map[uint64]fixup{},
		fresh: freshStart, symbols: map[string]int{}, defined: map[string]bool{}, thunks: map[dest]uint64{}, itabs: map[pair]dest{}, itabSlots: map[dest]uint64{}, wraps: map[int]dest{}, constants: map[int]map[uint64]uint64{}, names: map[int]string{}, filled: map[slot]bool{},
	}
	var err error
	if b.base, err = newSpace(in.Base); err != nil {
		return nil, err
	}
	if b.new, err = newSpace(in.New); err != nil {
		return nil, err
	}
	if b.md, err = readModuledataLayout(in.Exe); err != nil {
		return nil, err
	}
	if b.lines, err = readLineTable(b.new, b.md); err != nil {
		return nil, err
	}
	if b.types, err = newTypes(b); err != nil {
		return nil, err
	}
	b.shareVariables()
	return b, nil
}

// check refuses what no module can do.
func (b *builder) check() error {
	var refused []finding.Finding
	for _, f := range b.Diff.Findings {
		if f.Severity == finding.Error {
			refused = append(refused, f)
		} else {
			b.findings = append(b.findings, f)
		}
	}
	for _, x := range b.Diff.Bypassed {
		if t := b.types.calling(x.Base); t != "" {
			refused = append(refused, finding.Finding{Code: x.Why.Code, Severity: finding.Error, Function: b.New.Symbols[x.New].Name, Source: b.source(x.New),
				Message: x.Why.Message + "; and replacing its callers does not do, because interfaces call it too, as a method of " + t,
				Advice:  "change what calls it instead, or let it do more, so that its entry has room"})
		}
	}
	for _, c := range b.Diff.Changed {
		name := b.New.Symbols[c.New].Name
		if why := untouchable(object.PackageOf(name)); why != "" {
			refused = append(refused, finding.Finding{Code: finding.UnsupportedBuild, Severity: finding.Error, Function: name,
				Source: b.source(c.New), Message: why, Advice: "undo the change, or restart the program with a rebuilt one"})
		}
		b.changed[c.New] = c.Base
	}
	if len(refused) > 0 {
		return &finding.Refusal{Findings: refused}
	}
	if len(b.changed) == 0 {
		return finding.Refuse(finding.NoChange, "no function that runs in the target was changed", "nothing is to be patched")
	}
	return nil
}

// untouchable says why a package's functions can't be replaced, "" if they can.
func untouchable(pkg string) string {
	switch {
	case pkg == "runtime", pkg == "runtime/cgo", pkg == "runtime/race", strings.HasPrefix(pkg, "internal/runtime/"), strings.HasPrefix(pkg, "runtime/internal/"),
		pkg == "internal/abi", pkg == "internal/bytealg", pkg == "internal/cpu", pkg == "internal/chacha8rand", pkg == "internal/goarch", pkg == "internal/goos":
		return "it belongs to the Go runtime, which runs where no redirect may be"
	case pkg == "crypto/internal/fips140", strings.HasPrefix(pkg, "crypto/internal/fips140/"):
		return "it belongs to the FIPS 140 module, which must be what its checksum says"
	}
	return ""
}

// roots owns the changed functions.
func (b *builder) roots() error {
	for _, c := range b.Diff.Changed {
		b.ownFunction(c.New)
	}
	return b.drain()
}

// source returns a function's file:line, "" if it is not known.
func (b *builder) source(fn int) string {
	file, line, err := b.New.Source(fn)
	if err != nil || file == "<autogenerated>" {
		return ""
	}
	return fmt.Sprintf("%s:%d", file, line)
}

// drain follows the references of all owned functions.
func (b *builder) drain() error {
	for len(b.todo) > 0 {
		fn := b.todo[len(b.todo)-1]
		b.todo = b.todo[:len(b.todo)-1]
		if err := b.followFunction(fn); err != nil {
			return b.blame(fn, err)
		}
	}
	return nil
}

// blame says in an error which function needs what can't be had.
func (b *builder) blame(fn int, err error) error {
	r, ok := errors.AsType[*finding.Refusal](err)
	if !ok {
		return fmt.Errorf("%s: %w", b.New.Symbols[fn].Name, err)
	}
	for i := range r.Findings {
		if f := &r.Findings[i]; f.Function == "" {
			f.Function, f.Source = b.New.Symbols[fn].Name, b.source(fn)
		}
	}
	return r
}

func (b *builder) ownFunction(fn int) {
	if !b.owned[fn] {
		b.owned[fn] = true
		b.todo = append(b.todo, fn)
	}
}

// followFunction follows every reference from a function's code and tables.
func (b *builder) followFunction(fn int) error {
	s := &b.New.Symbols[fn]
	lo := b.new.symbol(fn)
	b.addSpan(segText, lo, lo+s.Size)
	refs, err := b.New.Refs(fn)
	if err != nil {
		return finding.Refuse(finding.UnsupportedBuild, fmt.Sprintf("%s can't be taken into the patch: its code can't be decoded: %v", s.Name, err),
			"don't use it in new code")
	}
	for i := range refs {
		r := &refs[i]
		if err := b.follow(b.new.start[b.New.Text]+r.Offset, r); err != nil {
			return err
		}
	}
	return b.followTables(fn)
}

// addSpan makes a part of New the module's. It tells whether that is new.
func (b *builder) addSpan(seg segment, lo, hi uint64) bool {
	s := span{lo, hi}
	if b.have[s] {
		return false
	}
	b.have[s] = true
	b.spans[seg] = append(b.spans[seg], s)
	return true
}

// ownData makes a part of New's data the module's, with all it refers to.
func (b *builder) ownData(seg segment, lo, hi uint64) error {
	if !b.addSpan(seg, lo, hi) {
		return nil
	}
	p, _ := b.new.place(lo)
	for _, r := range b.new.relocs(lo, hi) {
		if err := b.follow(b.new.start[p.Section]+r.Offset, &r); err != nil {
			return err
		}
	}
	return nil
}

// follow decides where the reference from the field at leads, and notes it.
func (b *builder) follow(at uint64, r *object.Reloc) error {
	if _, done := b.fixups[at]; done {
		return nil
	}
	s := &b.New.Symbols[r.Symbol]
	if s.Type == elf.STT_TLS {
		return b.followTLS(at, r)
	}
	to, err := b.decide(r)
	if err != nil {
		return err
	}
	switch r.Type {
	case elf.R_X86_64_64:
		b.fixups[at] = fixup{kind: fixAbs, to: to}
	case elf.R_X86_64_PC32, elf.R_X86_64_PLT32:
		if slot, ok := b.itabSlots[to]; ok && b.isLea(at) {
			b.fixups[at] = fixup{kind: fixPC, to: own(slot), adj: -4, load: true}
			return nil
		}
		// Addend = offset in the symbol minus the way from the field to the
		// end of the instruction.
		b.fixups[at] = fixup{kind: fixPC, to: to, adj: r.Addend - int64(r.Target.Offset-s.Offset)}
	default:
		return finding.Refuse(finding.UnsupportedBuild, fmt.Sprintf("a relocation of type %v against %s has no place in a patch", r.Type, s.Name),
			"don't use it in new code")
	}
	return nil
}

// followTLS handles a reference to a thread-local variable. In a
// position-independent object the code loads its offset from the global offset
// table; like a linker of an executable (psABI x86-64, "TLS code sequences") it
// is made a move of the offset itself when the code is written: see writeText.
func (b *builder) followTLS(at uint64, r *object.Reloc) error {
	name := b.New.Symbols[r.Symbol].Name
	if name != "runtime.tlsg" || r.Type != elf.R_X86_64_TPOFF32 && r.Type != elf.R_X86_64_GOTTPOFF {
		return finding.Refuse(finding.UnsupportedBuild, fmt.Sprintf("the thread-local variable %s can't be reached from a patch", name),
			"don't use it in new code")
	}
	f := fixup{kind: fixTLS, to: dest{symbol: b.undefined(name, elf.STT_TLS)}}
	if r.Type == elf.R_X86_64_TPOFF32 {
		f.to.off = r.Addend
	} else {
		f.adj = 1 // the instruction must be rewritten
	}
	b.fixups[at] = f
	return nil
}

// undefined returns the index of the module's undefined symbol of the name.
func (b *builder) undefined(name string, typ elf.SymType) int {
	i, ok := b.symbols[name]
	if !ok {
		i = len(b.out.Symbols)
		b.symbols[name] = i
		b.out.Symbols = append(b.out.Symbols, module.Symbol{Name: name, Type: typ, Undefined: true})
	}
	return i
}

// freshPiece makes a piece that is in no object.
func (b *builder) freshPiece(seg segment, data []byte) *piece {
	p := &piece{lo: b.fresh, size: uint64(len(data)), data: data}
	b.fresh += (p.size + 2*alignment) &^ (alignment - 1)
	b.made[seg] = append(b.made[seg], p)
	return p
}

// difference turns an error of gotype into a refusal.
func difference(err error) error {
	d, ok := err.(*gotype.Difference)
	if !ok {
		return err
	}
	code, what := finding.TypeLayoutChanged, "the type "+d.Type+" of the running program has another layout: "
	if d.MethodSet {
		code, what = finding.MethodSetChanged, "the type "+d.Type+" of the running program has another method set: "
	}
	return finding.Refuse(code, what+d.How+"; values of it live in the target and can't be changed",
		"leave the type as it is, and put what is new into a type of its own; or restart the program")
}
