package clink

import (
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/link"
	"github.com/darn-dev/darn/patcher/loaded"
	"github.com/darn-dev/darn/patcher/module"
	"github.com/darn-dev/darn/patcher/process"
)

// Bind computes the image of a module for C placed at base. Refusals:
// symbol-unresolved and symbol-ambiguous for what the program lacks,
// global-changed if a variable has another size, unsupported-build if the module
// needs what can't be done, out-of-range, text-mismatch.
func Bind(m *module.Module, set *loaded.Set, p *process.Process, base uint64) (*link.Image, error) {
	b := &binder{m: m, set: set, p: p, base: base, bound: make(map[int]target)}
	for _, step := range []func() error{b.libraries, b.matches, b.place, b.functions, b.relocate, b.declared, b.bridges, b.gates, b.descriptors} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	b.folded()
	b.variables()
	b.inlined()
	return &b.image, nil
}

// binder is the state of one Bind.
type binder struct {
	m     *module.Module
	set   *loaded.Set
	p     *process.Process
	base  uint64
	image link.Image
	found []match
	bound map[int]target // by the number of the module's symbol
	// resolved are the implementations of indirect functions, by resolver.
	resolved map[uint64]uint64
	// bridgeFrames is where the bridges' unwind tables are, 0 without bridges.
	bridgeFrames uint64
	// moduleLines are where the module's functions are declared.
	moduleLines map[uint64]string
}

// target is what a symbol is bound to.
type target struct {
	addr   uint64
	symbol *loaded.Symbol // nil for the module's own, and for what need not be there
}

func (b *binder) warn(code finding.Code, symbol, message, advice string) {
	b.image.Findings = append(b.image.Findings, finding.Finding{
		Code: code, Severity: finding.Warning, Function: symbol, Message: message, Advice: advice,
	})
}

// libraries refuses a module that was linked with libraries that the program has
// not loaded.
func (b *binder) libraries() error {
	missing := Missing(b.m, b.set)
	if len(missing) == 0 {
		return nil
	}
	name := missing[0]
	message := fmt.Sprintf("the module was linked with %s, which the program has not loaded", name)
	advice := "link the module with nothing but what the program has (gcc -shared needs no libraries: what is undefined is found in the program), or with the library's archive (-l:lib.a)"
	if foreign(name) {
		return refuse(finding.SymbolUnresolved, "", message+": it is for another C library", advice)
	}
	return refuse(finding.SymbolUnresolved, "", message, advice+"; or let the program load the library, where it stays: load --dlopen")
}

// Missing returns the libraries that a module was linked with and that the
// program has not loaded.
func Missing(m *module.Module, set *loaded.Set) (names []string) {
	if m.Shared == nil || set.Static {
		return nil // a static program has of them what it was linked with
	}
	for _, name := range m.Shared.Needed {
		if !set.Has(filepath.Base(name)) {
			names = append(names, name)
		}
	}
	return names
}

// Loadable tells whether all libraries that Missing returned could be loaded.
func Loadable(missing []string) bool { return !slices.ContainsFunc(missing, foreign) }

// foreign tells whether a library is one that a program has one of at most.
func foreign(name string) bool {
	name = filepath.Base(name)
	return strings.HasPrefix(name, "libc.") || strings.HasPrefix(name, "ld-")
}

// place lays the segments out.
func (b *binder) place() error {
	end := b.m.End()
	b.image = link.Image{Unseen: b.unseen(), Base: b.base, Size: end, Symbols: map[string]uint64{}, Findings: b.image.Findings}
	for _, s := range b.m.Segments {
		b.image.Segments = append(b.image.Segments, link.Segment{
			Addr: b.base + s.Addr, Data: append([]byte(nil), s.Data...), Size: s.Size, Flags: s.Flags,
		})
	}
	for i := range b.m.Symbols {
		x := &b.m.Symbols[i]
		if x.Undefined {
			continue
		}
		b.image.Symbols[x.Name] = b.base + x.Addr
		if x.Type == elf.STT_FUNC {
			b.image.Entries = append(b.image.Entries, b.base+x.Addr)
		}
	}
	if b.m.Shared.Frames != 0 {
		b.image.Frames = b.base + b.m.Shared.Frames
	}
	return nil
}

// untouchable are functions that run where no jump may be: between the kernel and
// a signal's end, or before the program.
var untouchable = map[string]string{
	"__restore_rt":     "it returns from signals: the kernel and debuggers know it by its bytes",
	"__tls_get_addr":   "the dynamic linker's own",
	"_start":           "it has run",
	"__libc_sigaction": "it knows where signals return",
}

// functions finds the old and the new code of what is replaced.
func (b *binder) functions() error {
	for _, x := range b.found {
		old := x.old
		name := Qualified(old)
		why, bad := untouchable[old.Name]
		if !bad && (strings.HasPrefix(old.Object.Name(), "ld-") || old.Object.Path == "[vdso]") {
			why, bad = "it belongs to "+old.Object.Name()+", which runs while nothing is set up", true
		}
		if bad {
			return refuse(finding.UnsupportedTarget, name, "the function can't be replaced: "+why, "replace what calls it")
		}
		if !near(old.Addr, b.base) {
			return refuse(finding.OutOfRange, name,
				fmt.Sprintf("the function, in %s, is more than 2 GiB away from the memory for patches, which is near what was patched first", old.Object.Name()),
				"make a patch of its own for it, and load that while no other is loaded")
		}
		if old.Size == 0 {
			return refuse(finding.UnsupportedTarget, name, "the symbol table does not say how long the function is", "replace what calls it")
		}
		code, err := old.Object.Code(old.Addr, old.Size)
		if err != nil {
			return err
		}
		f := x.record
		if f.SHA256 == "" {
			sum := sha256.Sum256(code)
			f = module.Function{Symbol: name, New: x.new.Name, Size: old.Size, SHA256: hex.EncodeToString(sum[:]), Source: b.source(x.new)}
		} else if f.Size != old.Size {
			return refuse(finding.TextMismatch, name, fmt.Sprintf("the function has %d bytes, the module was built to replace %d", old.Size, f.Size),
				"build the module for the program that runs")
		}
		lf := link.Function{Function: f, Entry: old.Addr, New: b.base + x.new.Addr, Optional: x.new.Weak}
		for _, s := range old.Object.Symbols() {
			rest, piece := strings.CutPrefix(s.Name, old.Name+".")
			if !piece || s.Type != elf.STT_FUNC || s.File != old.File && old.Local {
				continue
			}
			if rest == "cold" || strings.HasPrefix(rest, "cold.") {
				lf.Pieces = append(lf.Pieces, link.Range{Start: s.Addr, End: s.Addr + s.Size})
				continue
			}
			if b.whole() {
				continue
			}
			b.warn(finding.InlinedCopy, name,
				fmt.Sprintf("the compiler has made a version %s of it, which some callers use: that is not replaced", s.Name),
				"replace those callers too: what they call is in their own source")
		}
		if !old.Object.Program {
			b.image.Findings = append(b.image.Findings, finding.Finding{Code: finding.LibraryFunction, Severity: finding.Info, Function: name,
				Message: "it is a function of " + old.Object.Path + ", for all who call it in this process"})
		}
		b.image.Functions = append(b.image.Functions, lf)
	}
	return nil
}

// whole tells that the module was made by comparing all that an edit concerns:
// callers that have copies of a function are in it.
func (b *binder) whole() bool { return b.m.Manifest.Origin.Base != "" }

// keepers are functions by which the kernel gets to hold addresses.
var keepers = []string{
	"signal", "sigaction", "bsd_signal", "__sysv_signal", "sigset", "sigaltstack", "epoll_ctl", "timer_create", "mq_notify",
	"aio_read", "aio_write", "io_submit", "io_uring_enter", "syscall", "set_robust_list",
}

// unseen says why the kernel may hold an address in the module, "" if not.
func (b *binder) unseen() string {
	for i := range b.m.Symbols {
		if x := &b.m.Symbols[i]; x.Undefined && slices.Contains(keepers, x.Name) {
			return fmt.Sprintf("the kernel, perhaps: the module calls %s, and what that was given can't be seen", x.Name)
		}
	}
	return ""
}

// near tells whether a jump leads from one address to the other, and to what is
// around it.
func near(a, b uint64) bool {
	const reach = 1<<31 - 1<<28
	return a-b < reach || b-a < reach
}

// relocate applies the relocations.
func (b *binder) relocate() error {
	for i := range b.m.Relocs {
		r := &b.m.Relocs[i]
		if r.Type == elf.R_X86_64_TLSDESC {
			continue // see descriptors
		}
		value, err := b.value(r)
		if err != nil {
			return err
		}
		if !b.put(r.Addr, value, 8) {
			return finding.Refuse(finding.ModuleMalformed, fmt.Sprintf("malformed module: a relocation at %#x alters bytes that it does not have", r.Addr), "build it again")
		}
	}
	return b.fixups()
}

// fixups applies the relocations that code has that was compiled for the program.
func (b *binder) fixups() error {
	for i := range b.m.Shared.Fixups {
		r := b.m.Shared.Fixups[i]
		value, name := b.base, "the module"
		if r.Symbol >= 0 {
			name = b.m.Symbols[r.Symbol].Name
			like := r
			if r.Type == elf.R_X86_64_TPOFF32 {
				like.Type = elf.R_X86_64_TPOFF64
			}
			var err error
			if value, err = b.value(&like); err != nil {
				return err
			}
		} else {
			value += uint64(r.Addend)
		}
		size := uint64(4)
		fits := false
		switch r.Type {
		case elf.R_X86_64_PC32:
			value -= b.base + r.Addr
			fits = int64(value) == int64(int32(value))
		case elf.R_X86_64_32S, elf.R_X86_64_TPOFF32:
			fits = int64(value) == int64(int32(value))
		case elf.R_X86_64_32:
			fits = value == uint64(uint32(value))
		case elf.R_X86_64_64:
			size, fits = 8, true
		}
		if !fits {
			return refuse(finding.OutOfRange, name, fmt.Sprintf("the module's code at %#x can't reach it from where there is room for the module", r.Addr),
				"make a patch of its own for this function, and load that while no other is loaded; or compile the program with -fPIE")
		}
		if !b.put(r.Addr, value, size) {
			return finding.Refuse(finding.ModuleMalformed, fmt.Sprintf("malformed module: a fixup at %#x alters bytes that it does not have", r.Addr), "build it again")
		}
	}
	return nil
}

// value computes what a relocation puts in its place.
func (b *binder) value(r *module.Reloc) (uint64, error) {
	if r.Type == elf.R_X86_64_RELATIVE {
		return b.base + uint64(r.Addend), nil
	}
	var t target
	if r.Symbol >= 0 {
		var err error
		if t, err = b.bind(r.Symbol); err != nil {
			return 0, err
		}
	}
	var x module.Symbol
	if r.Symbol >= 0 {
		x = b.m.Symbols[r.Symbol]
	}
	isTLS := t.symbol != nil && t.symbol.Type == elf.STT_TLS
	switch r.Type {
	case elf.R_X86_64_DTPMOD64, elf.R_X86_64_DTPOFF64, elf.R_X86_64_TPOFF64:
		if !isTLS {
			return 0, refuse(finding.SymbolUnresolved, x.Name, "the module takes it for a thread-local variable, which the program does not have under that name",
				"declare it as it is in the program's source")
		}
		return b.threadLocal(r, t.symbol)
	}
	if isTLS {
		return 0, refuse(finding.SymbolUnresolved, x.Name, "it is a thread-local variable of the program, and the module does not take it for one",
			"declare it as it is in the program's source (__thread)")
	}
	if r.Type == elf.R_X86_64_JMP_SLOT && t.symbol != nil && t.symbol.Type == elf.STT_OBJECT {
		return 0, refuse(finding.SymbolUnresolved, x.Name, "the module calls it, and in the program it is a variable", "declare it as it is in the program's source")
	}
	return t.addr + uint64(r.Addend), nil
}

// threadLocal computes what refers to a thread-local variable.
func (b *binder) threadLocal(r *module.Reloc, s *loaded.Symbol) (uint64, error) {
	tls, ok := b.set.TLS(b.p, s.Object)
	if !ok {
		return 0, refuse(finding.UnsupportedTarget, s.Name,
			fmt.Sprintf("where the thread-local variables of %s are is not known: the C library does not say", s.Object.Name()),
			"reach the variable through a function of the program's")
	}
	offset := s.Addr + uint64(r.Addend)
	switch r.Type {
	case elf.R_X86_64_DTPMOD64:
		return tls.Module, nil
	case elf.R_X86_64_DTPOFF64:
		return offset, nil
	}
	if !tls.Static {
		return 0, refuse(finding.UnsupportedTarget, s.Name,
			fmt.Sprintf("the module expects it at a fixed distance in each thread, where the variables of %s are not", s.Object.Name()),
			"compile the module with -ftls-model=global-dynamic")
	}
	return uint64(tls.Offset) + offset, nil
}

// descriptors fills in the descriptors by which code may find thread-local
// variables (-mtls-dialect=gnu2): a function that is called with the descriptor's
// address in %rax and returns the variable's distance from the thread pointer
// there, all other registers as they were; and a word for it, which is that
// distance, as only variables at fixed places are supported.
func (b *binder) descriptors() error {
	at := uint64(0) // of the function
	for i := range b.m.Relocs {
		r := b.m.Relocs[i]
		if r.Type != elf.R_X86_64_TLSDESC {
			continue
		}
		if r.Symbol < 0 {
			return refuse(finding.UnsupportedBuild, "", "the module has a descriptor of a thread-local variable without a name", "compile it with -mtls-dialect=gnu")
		}
		r.Type = elf.R_X86_64_TPOFF64
		distance, err := b.value(&r)
		if err != nil {
			return err
		}
		if at == 0 {
			at = b.base + b.image.Size
			code := []byte{0x48, 0x8B, 0x40, 0x08, 0xC3} // mov 8(%rax), %rax; ret
			b.image.Segments = append(b.image.Segments, link.Segment{Addr: at, Data: code, Size: pageSize, Flags: elf.PF_R | elf.PF_X})
			b.image.Size += pageSize
		}
		if !b.put(r.Addr, at, 8) || !b.put(r.Addr+8, distance, 8) {
			return finding.Refuse(finding.ModuleMalformed, fmt.Sprintf("malformed module: a relocation at %#x alters bytes that it does not have", r.Addr), "build it again")
		}
	}
	return nil
}

// put writes a value of size bytes at the module's address addr.
func (b *binder) put(addr, value, size uint64) bool {
	for i := range b.image.Segments {
		s := &b.image.Segments[i]
		start := s.Addr - b.base
		if !(link.Range{Start: start, End: start + s.Size}).Holds(addr, size) {
			continue
		}
		if need := addr - start + size; need > uint64(len(s.Data)) {
			s.Data = append(s.Data, make([]byte, need-uint64(len(s.Data)))...)
		}
		var word [8]byte
		binary.LittleEndian.PutUint64(word[:], value)
		copy(s.Data[addr-start:], word[:size])
		return true
	}
	return false
}
