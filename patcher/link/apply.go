package link

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/darn-dev/darn/patcher/finding"
)

// Memory is a process's memory.
type Memory interface {
	ReadMemory(buf []byte, addr uint64) error
	WriteMemory(addr uint64, data []byte) error
}

// Check compares every Old with what is there. It is refused with
// text-mismatch if one differs.
func Check(mem Memory, writes []Write) error {
	for i := range writes {
		if err := expect(mem, &writes[i], writes[i].Old); err != nil {
			return err
		}
	}
	return nil
}

// Apply makes the writes in order, each after comparing its Old with what is
// there. On an error it undoes in reverse what it did.
func Apply(mem Memory, writes []Write) error {
	for i := range writes {
		w := &writes[i]
		err := expect(mem, w, w.Old)
		if err == nil {
			if len(w.Old) != 0 && len(w.Old) != len(w.New) {
				err = fmt.Errorf("write at %#x: %d bytes for %d", w.Addr, len(w.New), len(w.Old))
			} else if err = mem.WriteMemory(w.Addr, w.New); err != nil && len(w.Old) != 0 {
				// It may have been written in part.
				err = errors.Join(err, mem.WriteMemory(w.Addr, w.Old))
			}
		}
		if err != nil {
			return errors.Join(err, Undo(mem, writes[:i]))
		}
	}
	return nil
}

// Undo takes back, in reverse order, those of the writes that have been made.
// It may be called with writes of which only the first ones were made, as an
// interrupted Apply leaves them: what still holds its Old is left alone. Where
// neither Old nor New is found nothing is written, and that is the error.
func Undo(mem Memory, writes []Write) error {
	var errs []error
	for i := len(writes) - 1; i >= 0; i-- {
		w := &writes[i]
		if len(w.Old) == 0 || expect(mem, w, w.Old) == nil {
			continue
		}
		if err := expect(mem, w, w.New); err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, mem.WriteMemory(w.Addr, w.Old))
	}
	return errors.Join(errs...)
}

// expect refuses with text-mismatch if want is not what w's place holds.
func expect(mem Memory, w *Write, want []byte) error {
	if len(want) == 0 {
		return nil
	}
	got := make([]byte, len(want))
	if err := mem.ReadMemory(got, w.Addr); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return finding.Refuse(finding.TextMismatch,
			fmt.Sprintf("at %#x stands % x instead of % x", w.Addr, clip(got), clip(want)),
			"something else has changed the program; restart it to patch it")
	}
	return nil
}

// clip shortens b to what a message can show.
func clip(b []byte) []byte { return b[:min(len(b), 16)] }
