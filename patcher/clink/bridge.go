package clink

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/link"
	"github.com/darn-dev/darn/patcher/loaded"
	"github.com/darn-dev/darn/patcher/module"
	"github.com/darn-dev/darn/patcher/redirect"
)

// A compiler that sees what a function does with registers lets its callers keep
// values in those that the function leaves alone, although the ABI lets it change
// them (gcc's -fipa-ra, which -O2 has). New code does not know that. So where the
// old code calls nothing whose code its compiler can't have seen, calls go to the
// new code over a bridge, which keeps all registers but those of the result. What
// is called through the procedure linkage table or a pointer may change every
// register: a function with such a call needs no bridge.

// BridgeSize is the most bytes that a bridge takes.
const BridgeSize = 1024

// Span returns the most bytes of address space that a module takes with its
// bridges, gates and descriptors.
func Span(m *module.Module) uint64 {
	n := len(m.Replaces())
	return m.End() + wholePages(n*(BridgeSize+fdeSize)+framesRoom) + wholePages(gateRoom+n*gateSize) + 2*pageSize
}

const pageSize = 4096

// wholePages is the size of the pages that n bytes take.
func wholePages(n int) uint64 { return uint64(n+pageSize-1) &^ (pageSize - 1) }

// bridges makes the bridges that the replaced functions need.
func (b *binder) bridges() error {
	var code []byte
	start := b.base + b.m.End()
	for i := range b.image.Functions {
		f := &b.image.Functions[i]
		if b.callsOut(b.found[i].old, map[uint64]bool{}) {
			continue
		}
		s, why := b.signature(b.found[i])
		if why != "" {
			return refuse(finding.SignatureChanged, f.Symbol,
				"its callers may rely on registers that the old code leaves alone, and the new code can't be made to keep them: "+why,
				"compile the module with -g; replace its callers in the same source file instead")
		}
		f.Bridge = start + uint64(len(code))
		piece := bridge(f.Bridge, f.New, s)
		if len(piece) > BridgeSize {
			return fmt.Errorf("clink: a bridge of %d bytes", len(piece))
		}
		code = append(code, piece...)
		for len(code)%BridgeSize != 0 {
			code = append(code, 0xCC)
		}
	}
	if len(code) == 0 {
		return nil
	}
	b.bridgeFrames = start + uint64(len(code))
	code = append(code, frames(start, uint64(len(code)))...)
	size := wholePages(len(code))
	b.image.Segments = append(b.image.Segments, link.Segment{Addr: start, Data: code, Size: size, Flags: elf.PF_R | elf.PF_X})
	b.image.Bridges = link.Range{Start: start, End: start + size}
	b.image.Size = b.m.End() + size
	return nil
}

// maxCallees bounds how far callsOut looks.
const maxCallees = 200

// callsOut tells whether a function, or one that it calls, calls something
// through a pointer or in another object.
func (b *binder) callsOut(f *loaded.Symbol, seen map[uint64]bool) bool {
	if seen[f.Addr] || len(seen) > maxCallees {
		return false
	}
	seen[f.Addr] = true
	code, err := f.Object.Code(f.Addr, f.Size)
	if err != nil {
		return false
	}
	targets, unknown, _ := redirect.Calls(code, f.Addr)
	if unknown {
		return true
	}
	for _, at := range targets {
		if strings.HasPrefix(f.Object.SectionAt(at), ".plt") {
			return true
		}
		if g, ok := f.Object.FunctionAt(at); ok && b.callsOut(g, seen) {
			return true
		}
	}
	return false
}

// The registers that a called function may change, by their numbers in
// instructions.
var changeable = []byte{0, 1, 2, 6, 7, 8, 9, 10, 11} // rax rcx rdx rsi rdi r8-r11

const scratch = 11 // carries nothing into a call

// bridge returns code at address at that calls the function at to, passes on the
// words of stack above its return address, and keeps all registers but those of
// the result. It has the frame of an ordinary function with %rbp.
func bridge(at, to uint64, s signature) []byte {
	saved := 8*len(changeable) + 16*16
	frame := saved + 8*s.stack
	code := []byte{0x55, 0x48, 0x89, 0xE5, 0x48, 0x81, 0xEC} // push %rbp; mov %rsp,%rbp; sub $frame,%rsp
	code = binary.LittleEndian.AppendUint32(code, uint32(frame))
	// A caller that knew the old code need not have aligned the stack for it.
	code = append(code, 0x48, 0x83, 0xE4, 0x100-stackAlign) // and $-stackAlign, %rsp
	general := func(op, reg byte, base byte, disp int) {    // mov between reg and disp(base)
		rex := byte(0x48)
		if reg >= 8 {
			rex |= 4
		}
		code = append(code, rex, op, 0x80|reg&7<<3|base)
		if base == 4 {
			code = append(code, 0x24)
		}
		code = binary.LittleEndian.AppendUint32(code, uint32(int32(disp)))
	}
	vector := func(op, reg byte, disp int) { // movups between reg and disp(%rbp)
		if reg >= 8 {
			code = append(code, 0x44)
		}
		code = append(code, 0x0F, op, 0x80|reg&7<<3|5)
		code = binary.LittleEndian.AppendUint32(code, uint32(int32(disp)))
	}
	const (
		store, load   = 0x89, 0x8B
		storeV, loadV = 0x11, 0x10
		rbp, rsp      = 5, 4
	)
	atGeneral := func(i int) int { return -8 * (i + 1) }
	atVector := func(i int) int { return -saved + 16*i }
	for i, reg := range changeable {
		general(store, reg, rbp, atGeneral(i))
	}
	for i := range 16 {
		vector(storeV, byte(i), atVector(i))
	}
	for i := range s.stack {
		general(load, scratch, rbp, 16+8*i)
		general(store, scratch, rsp, 8*i)
	}
	code = append(code, 0xE8)
	code = binary.LittleEndian.AppendUint32(code, uint32(to-(at+uint64(len(code))+4)))
	drop := func(keep bool, reg byte, regs []byte) []byte {
		if keep {
			return regs
		}
		return slices.DeleteFunc(regs, func(r byte) bool { return r == reg })
	}
	back := drop(s.keepRDX, 2, drop(s.keepRAX, 0, slices.Clone(changeable)))
	for i, reg := range changeable {
		if slices.Contains(back, reg) {
			general(load, reg, rbp, atGeneral(i))
		}
	}
	for i := range 16 {
		if i == 0 && !s.keepXMM0 || i == 1 && !s.keepXMM1 {
			continue
		}
		vector(loadV, byte(i), atVector(i))
	}
	return append(code, 0xC9, 0xC3) // leave; ret
}

const (
	// fdeSize and framesRoom are the bytes of the unwind tables of bridges: for
	// each, and for all.
	fdeSize    = 32
	framesRoom = 64
)

// frames returns the unwind tables (.eh_frame) of the bridges in the n bytes of
// code at start, for the place behind them.
func frames(start, n uint64) []byte {
	const advance1, advance3 = 0x41, 0x43
	var table []byte
	record := func(size int, content ...byte) {
		for len(content) < size-4 {
			content = append(content, 0) // DW_CFA_nop
		}
		table = binary.LittleEndian.AppendUint32(table, uint32(size-4))
		table = append(table, content...)
	}
	record(40, 0, 0, 0, 0, // a CIE
		1, 'z', 'R', 0, 1, 0x78, 16, // version, augmentation, alignment of code and data (-8), return address
		1, 0x00, // DW_EH_PE_absptr
		0x0C, 7, 8, 0x90, 1, // CFA is %rsp+8, return address at CFA-8
		advance1, 0x0E, 16, 0x86, 2, // behind push %rbp: CFA is %rsp+16, %rbp at CFA-16
		advance3, 0x0D, 6) // behind mov %rsp,%rbp: CFA is %rbp+16
	for at := start; at < start+n; at += BridgeSize {
		cie := binary.LittleEndian.AppendUint32(nil, uint32(len(table)+4)) // back to the CIE
		fde := binary.LittleEndian.AppendUint64(cie, at)
		fde = binary.LittleEndian.AppendUint64(fde, BridgeSize)
		record(fdeSize, append(fde, 0)...)
	}
	return append(table, 0, 0, 0, 0) // the end
}
