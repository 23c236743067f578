package process

import (
	"bytes"
	"fmt"

	"github.com/go-delve/delve/pkg/proc"

	"github.com/darn-dev/darn/patcher/finding"
)

// Breakpoints returns Delve's software breakpoints that have a byte in
// [lo, hi), in no particular order.
func (h *Halt) Breakpoints(lo, hi uint64) []*proc.Breakpoint {
	if h.valid() != nil {
		return nil
	}
	var found []*proc.Breakpoint
	for addr, bp := range h.Target().Breakpoints().M {
		if bp.WatchType == 0 && addr < hi && addr+uint64(len(bp.OriginalData)) > lo {
			found = append(found, bp)
		}
	}
	return found
}

// ReadText fills buf from address addr with what the program is: where Delve
// has set a breakpoint, with the bytes it hides.
func (h *Halt) ReadText(buf []byte, addr uint64) error {
	if err := h.valid(); err != nil {
		return err
	}
	if err := h.p.ReadMemory(buf, addr); err != nil {
		return err
	}
	for _, bp := range h.Breakpoints(addr, addr+uint64(len(buf))) {
		overlay(buf, addr, bp.OriginalData, bp.Addr)
	}
	return nil
}

// Masker is a Halter that knows while the target runs what breakpoints hide.
type Masker interface {
	// Hidden returns the bytes that breakpoints hide, by their addresses, of all
	// that may be set. Nobody changes the map any more.
	Hidden() map[uint64][]byte
}

// ReadText is Halt.ReadText while the target runs. A breakpoint may have come or gone
// since the debugger last said where they are: who finds what should not be there
// looks under a Halt.
func (p *Process) ReadText(buf []byte, addr uint64) error {
	if err := p.ReadMemory(buf, addr); err != nil {
		return err
	}
	if m, ok := p.halter.(Masker); ok {
		for at, bytes := range m.Hidden() {
			if at >= addr && at-addr < uint64(len(buf)) && buf[at-addr] == int3 {
				overlay(buf, addr, bytes, at)
			}
		}
	}
	return nil
}

// overlay copies what of patch, at address at, falls into buf, at address addr.
func overlay(buf []byte, addr uint64, patch []byte, at uint64) {
	for i, b := range patch {
		if a := at + uint64(i); a >= addr && a < addr+uint64(len(buf)) {
			buf[a-addr] = b
		}
	}
}

// WriteText writes new at address addr if old, of the same length, is there
// now, and reads it back. Delve's breakpoints stay set: they hide the new bytes
// from then on. It's for data as well. If anything but old is there nothing is
// written, and it's refused with text-mismatch; new being there already is no
// exception.
func (h *Halt) WriteText(addr uint64, old, new []byte) error {
	if len(old) != len(new) {
		return fmt.Errorf("writing %d bytes over %d at %#x", len(new), len(old), addr)
	}
	now := make([]byte, len(old))
	if err := h.ReadText(now, addr); err != nil {
		return err
	}
	if !bytes.Equal(now, old) {
		return mismatch(addr, now, old)
	}
	bps := h.Breakpoints(addr, addr+uint64(len(new)))
	if err := h.writeAround(bps, addr, new); err != nil {
		// Part of it may stand there.
		_ = h.writeAround(bps, addr, old)
		return err
	}
	if err := h.ReadText(now, addr); err != nil {
		return err
	}
	if !bytes.Equal(now, new) {
		return mismatch(addr, now, new)
	}
	return nil
}

// writeAround writes data everywhere but under the breakpoints, which get to
// know what they hide.
func (h *Halt) writeAround(bps []*proc.Breakpoint, addr uint64, data []byte) error {
	image := bytes.Clone(data)
	for _, bp := range bps {
		there := make([]byte, len(bp.OriginalData))
		if err := h.p.ReadMemory(there, bp.Addr); err != nil {
			return err
		}
		overlay(image, addr, there, bp.Addr)
	}
	if err := h.p.WriteMemory(addr, image); err != nil {
		return err
	}
	for _, bp := range bps {
		overlay(bp.OriginalData, bp.Addr, data, addr)
	}
	return nil
}

func mismatch(addr uint64, now, want []byte) error {
	return finding.Refuse(finding.TextMismatch,
		fmt.Sprintf("at %#x stand the bytes % x, not % x as expected", addr, now, want),
		"something else has changed the program; restart it to patch it")
}
