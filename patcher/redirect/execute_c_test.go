package redirect

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/darn-dev/darn/patcher/finding"
)

// host is a running testdata/host program.
type host struct {
	in   io.Writer
	out  *bufio.Scanner
	im   *image
	bias uint64
	next uint64 // free r-x memory
	end  uint64
}

// buildHost compiles the program with the flags.
func buildHost(t *testing.T, flags ...string) string {
	t.Helper()
	exe := filepath.Join(t.TempDir(), "host")
	gcc(t, append(flags, "-o", exe, "testdata/host/host.c", "-pthread")...)
	return exe
}

func startHost(t *testing.T, exe string) *host {
	t.Helper()
	cmd := exec.Command(exe)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close() // it exits at the end of its input
		if err := cmd.Wait(); err != nil && !t.Failed() {
			t.Errorf("the host: %v", err)
		}
	})
	h := &host{in: in, out: bufio.NewScanner(out), im: readImage(t, exe)}
	h.bias = h.ask(t, "b")[0] - h.im.named(t, "main").addr
	const size = 1 << 16
	at := h.addr(t, "main")&^0xFFFF + 1<<28
	for range 100 {
		if h.ask(t, "m %x %x", at, size)[0] == at {
			h.next, h.end = at, at+size
			break
		}
		at += 1 << 24
	}
	return h
}

// ask sends a command and returns the numbers of its answer.
func (h *host) ask(t testing.TB, format string, args ...any) []uint64 {
	t.Helper()
	line := fmt.Sprintf(format, args...)
	fmt.Fprintln(h.in, line)
	if !h.out.Scan() {
		t.Fatalf("the host has died of %q", line)
	}
	var ns []uint64
	for _, f := range strings.Fields(h.out.Text()) {
		n, err := strconv.ParseUint(f, 16, 64)
		if err != nil {
			t.Fatalf("the host answers %q to %q", h.out.Text(), line)
		}
		ns = append(ns, n)
	}
	return ns
}

func (h *host) call(t testing.TB, name string) uint64 {
	t.Helper()
	return h.ask(t, "c %s", name)[0]
}

func (h *host) addr(t testing.TB, name string) uint64 {
	t.Helper()
	return h.im.named(t, name).addr + h.bias
}

func (h *host) write(t testing.TB, addr uint64, data []byte) {
	t.Helper()
	h.ask(t, "w %x %x", addr, data)
}

func (h *host) place(t testing.TB, n int) uint64 {
	t.Helper()
	at := h.next
	if h.next += uint64(n+63) &^ 63; h.next > h.end {
		t.Fatal("no memory left for redirects")
	}
	return at
}

// hostFunctions are the functions of testdata/host and how they are called.
var hostFunctions = map[string][]string{
	"add": {"add", "through_pointer"}, "many": {"many"}, "floats": {"floats"},
	"extended": {"extended"}, "variadic": {"variadic"}, "by_value": {"by_value"},
	"fibonacci": {"fibonacci"}, "use_global": {"use_global"}, "set_global": {"set_global"},
	"thread_local": {"thread_local"}, "tail_call": {"tail_call"}, "from_memory": {"from_memory"},
	"constant": {"constant"}, "early_return": {"early_return"}, "length": {"length"},
	"stack_array": {"stack_array"}, "jump_table": {"jump_table"}, "vector_sum": {"vector_sum"},
}

// hostBuilds are flags that give functions different prologues.
var hostBuilds = [][]string{
	{"-O0"},
	{"-O2", "-no-pie"},
	{"-O2", "-fPIE", "-pie", "-fcf-protection=full", "-fstack-protector-all"},
	{"-O3", "-fno-plt", "-fcf-protection=none"},
	{"-Os", "-fno-omit-frame-pointer"},
	{"-O1", "-fstack-clash-protection", "-mno-red-zone"},
}

func TestRedirectedCFunctionsRunOldAndNew(t *testing.T) {
	direct := 0
	for _, flags := range hostBuilds {
		t.Run(strings.Join(flags, ""), func(t *testing.T) {
			h := startHost(t, buildHost(t, flags...))
			swapped := startHost(t, buildHost(t, append([]string{"-DSWAP"}, flags...)...))
			outcome := map[string]int{}
			for name, callers := range hostFunctions {
				f := h.im.named(t, "old_"+name)
				p, err := Analyze(f.code, f.addr+h.bias)
				if err != nil {
					t.Logf("%s: %v", name, err)
					outcome[string(finding.CodeOf(err))]++
					continue
				}
				outcome[string(p.Encoding)]++
				old, want := map[string]uint64{}, map[string]uint64{}
				for _, caller := range callers {
					old[caller], want[caller] = h.call(t, caller), swapped.call(t, caller)
					if old[caller] == want[caller] {
						t.Fatalf("old and new %s cannot be told apart", caller)
					}
				}
				check := func(what string, want map[string]uint64) {
					for _, caller := range callers {
						if got := h.call(t, caller); got != want[caller] {
							t.Errorf("%s (% x, %s): %s answers %#x, want %#x",
								name, p.covered, p.Encoding, what, got, want[caller])
						}
					}
				}
				in := install(t, h, p, h.addr(t, "new_"+name))
				check("inactive", old)
				in.set(t, true)
				check("active", want)
				in.set(t, false)
				check("inactive again", old)
				in.set(t, true)
				check("active again", want)
				in.restore(t)
				check("restored", old)
			}
			t.Logf("%v", outcome)
			direct += outcome["direct"]
			if outcome["jump"] < len(hostFunctions)/2 {
				t.Errorf("only %d functions were redirected by jump", outcome["jump"])
			}
		})
	}
	if direct == 0 {
		t.Error("no function was redirected directly")
	}
}

func TestTogglingUnderCThreadsLosesNoCall(t *testing.T) {
	exe := buildHost(t, "-O2", "-fno-plt")
	swapped := startHost(t, buildHost(t, "-DSWAP", "-O2", "-fno-plt"))
	for _, name := range []string{"add", "many", "stack_array", "use_global", "variadic"} {
		t.Run(name, func(t *testing.T) {
			h := startHost(t, exe)
			f := h.im.named(t, "old_"+name)
			p, err := Analyze(f.code, f.addr+h.bias)
			if err != nil {
				t.Fatal(err)
			}
			if p.Encoding != JumpEncoding {
				t.Fatalf("not switched: %s", p.Reason)
			}
			old, want := h.call(t, name), swapped.call(t, name)
			in := install(t, h, p, h.addr(t, "new_"+name))
			h.ask(t, "r %s 4 %x %x", name, old, want)
			deadline := time.Now().Add(30 * time.Second)
			for i := 1; ; i++ {
				in.set(t, i%2 == 0)
				if i >= 2000 && i%100 == 0 {
					n := h.ask(t, "n")
					if n[0] > 0 && n[1] > 0 || time.Now().After(deadline) {
						break
					}
				}
			}
			got := h.ask(t, "s")
			t.Logf("%d calls ran old code, %d new", got[0], got[1])
			if got[0] == 0 || got[1] == 0 || got[2] != 0 {
				t.Errorf("calls returned old, new, neither %d times", got)
			}
		})
	}
}
