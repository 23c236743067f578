package patcher_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/internal/targettest"
	"github.com/darn-dev/darn/patcher/process"
)

var operations = flag.Int("operations", 100, "how many operations TestNothingLeaks makes")

// use is what two processes have that must not grow: this one and its target.
type use struct {
	descriptors, goroutines int
	heap                    uint64 // bytes
	target                  string // the target's mappings, descriptors, threads and signals
	resident                int    // of the target, KiB
}

func inUse(t testing.TB, target *targettest.Target) use {
	t.Helper()
	var u use
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	u.descriptors = len(fds)
	u.goroutines = runtime.NumGoroutine()
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u.heap = m.HeapAlloc
	u.target = image{}.diff(snapshot(t, target.Pid()))
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", target.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		_, _ = fmt.Sscanf(line, "VmRSS: %d kB", &u.resident)
	}
	return u
}

// TestNothingLeaks loads, switches and unloads a patch again and again, with
// refusals between and a new engine now and then.
func TestNothingLeaks(t *testing.T) {
	exe := targettest.Build(t, "troubled.c", "-O2")
	m := cModule(t, "int answer(int n) { return n + 43; }")
	bad := filepath.Join(t.TempDir(), "bad.so")
	if err := os.WriteFile(bad, []byte("no module"), 0o644); err != nil {
		t.Fatal(err)
	}
	target := targettest.Start(t, targettest.Command{Path: exe})
	prints(t, target, "42")
	round := func() int {
		// Not by attach, whose cleanup keeps it until the test has ended: Delve
		// leaves its files to the garbage collector.
		a, err := process.Attach(target.Pid())
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		e, err := patcher.Open(a)
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		n := 0
		for range 5 {
			p := load(t, e, m)
			activate(t, e, p)
			deactivate(t, e, p)
			activate(t, e, p)
			deactivate(t, e, p)
			if _, _, err := e.Load(t.Context(), bad); finding.CodeOf(err) != finding.ModuleMalformed {
				t.Fatal(err)
			}
			targettest.Eventually(t, "an unload", func() bool {
				_, err := e.Unload(t.Context(), p.ID)
				n++
				return err == nil
			})
			n += 6
		}
		return n
	}
	for range 2 { // until everything is as big as it gets
		round()
	}
	before := inUse(t, target)
	done := 0
	for done < *operations {
		done += round()
	}
	var after use
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		// What ends takes a moment to do so.
		after = inUse(t, target)
		if after.goroutines <= before.goroutines && after.descriptors <= before.descriptors || time.Now().After(end) {
			break
		}
	}
	t.Logf("after %d operations: %d descriptors (%d before), %d goroutines (%d), %d KiB of heap (%d), the target has %d KiB (%d)", done,
		after.descriptors, before.descriptors, after.goroutines, before.goroutines, after.heap>>10, before.heap>>10, after.resident, before.resident)
	if after.descriptors > before.descriptors || after.goroutines > before.goroutines {
		t.Error("there are more descriptors or goroutines")
	}
	if after.heap > before.heap+4<<20 || after.resident > before.resident+1024 {
		t.Error("there is more memory in use")
	}
	if after.target != before.target {
		t.Errorf("the target is not as it was:\n%s\n->\n%s", before.target, after.target)
	}
}
