package process

import "errors"

// A system call in the target's name is done by a syscall instruction with an endless
// loop behind it: a thread whose tracer is killed meanwhile stays there, until the
// guardian gives it its registers back. Such code is put for the time of a halt where
// the program began: nobody comes there any more.

// gadget is that code.
var gadget = []byte{0x0f, 0x05, 0xeb, 0xfe} // syscall; jmp .

// gadgetReach is behind the syscall instruction how far a thread may get that stays
// there, in bytes.
const gadgetReach = 16

// putGadget puts the gadget in place, until takeGadget. A halt in the halt of an attach
// finds it there, and may take it.
func (h *Halt) putGadget() (at uint64, err error) {
	at = h.p.entry
	if h.p.gadgetOld != nil {
		return at, nil
	}
	if at == 0 {
		return 0, errors.New("it is not known where the program began")
	}
	old := make([]byte, len(gadget))
	if err := h.p.ReadMemory(old, at); err != nil {
		return 0, err
	}
	if j := journalOf(h.p.pid); j != nil {
		copy(j.entryOld[:], old)
		j.entry.Store(at)
	}
	if err := h.p.WriteMemory(at, gadget); err != nil {
		return 0, err
	}
	h.p.gadgetOld = old
	return at, nil
}

// takeGadget puts back what was there. It is called at the end of a halt.
func (h *Halt) takeGadget() error {
	if h.p.gadgetOld == nil {
		return nil
	}
	if err := h.p.WriteMemory(h.p.entry, h.p.gadgetOld); err != nil {
		return err
	}
	h.p.gadgetOld = nil
	if j := journalOf(h.p.pid); j != nil {
		j.entry.Store(0)
	}
	return nil
}
