package arena

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/darn-dev/darn/patcher/process"
)

func newSlots() slots { return slots{make([]byte, 4096), make([]byte, 4096)} }

func (s slots) clone() slots { return slots{bytes.Clone(s[0]), bytes.Clone(s[1])} }

func mustSave(t *testing.T, s slots, state []byte) {
	t.Helper()
	if err := s.save(state, func(to, from []byte) { copy(to, from) }); err != nil {
		t.Fatal(err)
	}
}

func TestRegistrySurvivesATornWriteAtEveryByte(t *testing.T) {
	states := [][]byte{[]byte("first"), bytes.Repeat([]byte("second "), 100), []byte("third, of another length"), nil, bytes.Repeat([]byte{0}, 300)}
	before := newSlots()
	var old []byte
	for _, state := range states {
		for cut := 0; ; cut++ {
			s, left := before.clone(), cut
			err := s.save(state, func(to, from []byte) {
				n := min(left, len(from))
				copy(to, from[:n])
				left -= n
			})
			if err != nil {
				t.Fatal(err)
			}
			got, err := s.load()
			if err != nil {
				// A first registry that is cut off has none before it to go back to,
				// and nothing was done yet that it would have to tell.
				if old == nil && left == 0 {
					continue
				}
				t.Fatalf("cut off after %d bytes: %v", cut, err)
			}
			if !bytes.Equal(got, old) && !bytes.Equal(got, state) {
				t.Fatalf("cut off after %d bytes the registry is %q, neither %q nor %q", cut, got, old, state)
			}
			// Whatever was left, the next save succeeds.
			mustSave(t, s, []byte("next"))
			if got, err := s.load(); string(got) != "next" || err != nil {
				t.Fatalf("cut off after %d bytes the next one is %q, %v", cut, got, err)
			}
			if left > 0 {
				break // nothing was cut off
			}
		}
		mustSave(t, before, state)
		old = state
	}
}

func TestRegistryTooLongIsRefused(t *testing.T) {
	s := newSlots()
	mustSave(t, s, []byte("old"))
	err := s.save(make([]byte, 4096), func(to, from []byte) { copy(to, from) })
	mustSay(t, err, "a registry of 4096 bytes is too long")
	if got, err := s.load(); string(got) != "old" || err != nil {
		t.Errorf("the registry is %q, %v", got, err)
	}
}

// FuzzRegistry loads from slots that hold anything: nothing must panic, and what
// is loaded must be what a slot says with a right checksum.
func FuzzRegistry(f *testing.F) {
	s := newSlots()
	f.Add(s[0], s[1])
	for _, state := range []string{"first", "second", "third"} {
		_ = s.save([]byte(state), func(to, from []byte) { copy(to, from) })
		f.Add(bytes.Clone(s[0][:100]), bytes.Clone(s[1][:100]))
	}
	f.Add(bytes.Repeat([]byte{0xff}, 40), bytes.Repeat([]byte{0xff}, 16))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		s := newSlots()
		copy(s[0], a)
		copy(s[1], b)
		before := s.clone()
		got, err := s.load()
		if err != nil && got != nil {
			t.Fatalf("both %q and %v", got, err)
		}
		if !bytes.Equal(before[0], s[0]) || !bytes.Equal(before[1], s[1]) {
			t.Fatal("loading has changed the registry")
		}
		if err := s.save([]byte("next"), func(to, from []byte) { copy(to, from) }); err != nil {
			t.Fatal(err)
		}
	})
}

// saverEnv makes the test program a Darn that saves registries without end into
// the process with that id.
const saverEnv = "DARN_ARENA_SAVER"

func saver() {
	fail := func(err error) {
		if err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
	}
	pid, err := strconv.Atoi(os.Getenv(saverEnv))
	fail(err)
	p, err := process.Attach(pid)
	fail(err)
	a, err := Open(p)
	fail(err)
	for n := 0; ; n++ {
		state, err := json.Marshal(bytes.Repeat([]byte{byte(n)}, n%20000))
		fail(err)
		fail(a.Save(state))
		if n == 10 {
			os.Stdout.WriteString("saving\n")
		}
	}
}

func TestKilledDarnLeavesAWholeRegistryAndALivingTarget(t *testing.T) {
	target := start(t, "cthreads.c", "ready")
	p := attach(t, target)
	a := reserve(t, p)
	if err := a.Save([]byte("[]")); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), saverEnv+"="+strconv.Itoa(target.Pid()))
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 7)); err != nil {
			t.Fatalf("the saver says nothing: %v, %v", err, cmd.Wait())
		}
		time.Sleep(time.Duration(i) * 7 * time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()

		func() {
			p, err := process.Attach(target.Pid())
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			a, err := Open(p)
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			state, err := a.Load()
			if err != nil {
				t.Fatal(err)
			}
			var content []byte
			if err := json.Unmarshal(state, &content); err != nil || len(content) == 0 {
				t.Fatalf("the registry is %.100q: %v", state, err)
			}
			for _, b := range content {
				if b != content[0] {
					t.Fatalf("the registry mixes states %d and %d", content[0], b)
				}
			}
		}()
		target.MustLive()
	}
}
