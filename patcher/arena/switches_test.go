package arena

import (
	"sync/atomic"
	"testing"
	"unsafe"
)

func TestSwitchesInOneWordChangeAtTheSameInstant(t *testing.T) {
	const base = 1 << 20
	a := &Arena{base: base, mem: make([]byte, switchesSize)}
	var on, off []Position
	for _, n := range []uint64{8, 11, 15} {
		on, off = append(on, Position{base + n, true}), append(off, Position{base + n, false})
	}
	if !a.Together(on...) || a.Together(on[0], Position{Switch: base + 7}) {
		t.Error("switches 8, 11 and 15 are in one word, 7 is not")
	}
	if err := a.SetSwitches(Position{base + 9, true}); err != nil {
		t.Fatal(err)
	}
	word := (*atomic.Uint64)(unsafe.Pointer(&a.mem[8]))
	var bad atomic.Uint64
	done, stopped := make(chan bool), make(chan bool)
	go func() {
		defer close(stopped)
		for {
			select {
			case <-done:
				return
			default:
			}
			if w := word.Load(); w != 1<<8 && w != 1|1<<8|1<<24|1<<56 {
				bad.Store(w)
			}
		}
	}()
	for range 20000 {
		if err := a.SetSwitches(on...); err != nil {
			t.Fatal(err)
		}
		if err := a.SetSwitches(off...); err != nil {
			t.Fatal(err)
		}
	}
	close(done)
	<-stopped
	if w := bad.Load(); w != 0 {
		t.Errorf("the word was seen as %#x", w)
	}
	if !a.Switch(base+9) || a.Switch(base+8) {
		t.Error("a switch that was not set has changed, or one that was has not")
	}
	// One that is none spoils all.
	if err := a.SetSwitches(on[0], Position{Switch: base - 1}); err == nil || a.Switch(base+8) {
		t.Errorf("an address that is no switch gives %v", err)
	}
}
