package patcher_test

import (
	"crypto/sha256"
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// image is what an operation must leave in a process as it was: its mappings,
// its descriptors, the bytes of every mapping that is not writable, the signals
// that it handles or ignores and those that its threads block, and its threads: of a
// Go program, which makes some as it likes, those that are Darn's.
type image map[string]string

// snapshot takes the image of a process. Memory that the program itself makes
// or drops, the heap and the stacks, is left out.
func snapshot(t testing.TB, pid int) image {
	t.Helper()
	im := image{}
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	for line := range strings.Lines(string(maps)) {
		var start, end uint64
		var perms string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &start, &end, &perms); err != nil {
			t.Fatal(err)
		}
		file := len(strings.Fields(line)) > 5
		if !file && !strings.Contains(perms, "x") || strings.Contains(line, "[") {
			continue
		}
		hash := ""
		if !strings.Contains(perms, "w") && strings.Contains(perms, "r") {
			data := make([]byte, end-start)
			if _, err := mem.ReadAt(data, int64(start)); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			hash = fmt.Sprintf("%x", sha256.Sum256(data))
		}
		im[strings.TrimSpace(line)] = hash
	}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, fd.Name()))
		if !strings.HasPrefix(to, "socket:") { // connections come and go
			im["fd "+fd.Name()] = to
		}
	}
	im["threads"], im["signals"] = threadsAndSignals(t, pid)
	return im
}

// threadsAndSignals returns the threads of a process, of a Go program only those
// that are Darn's, and its signals.
func threadsAndSignals(t testing.TB, pid int) (ids, signals string) {
	t.Helper()
	goProgram := false
	if x, err := elf.Open(fmt.Sprintf("/proc/%d/exe", pid)); err == nil {
		goProgram = x.Section(".gopclntab") != nil
		x.Close()
	}
	var handled, darns string
	var blocked []string
	// A thread that makes or ends another blocks signals for an instant, which is as
	// long as others keep it from running: what stays counts. Darn's blocks them for ever.
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		ids, darns, blocked = "", "", nil
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range tasks {
			status, _ := os.ReadFile(filepath.Join(task, "status"))
			name, _ := os.ReadFile(filepath.Join(task, "comm"))
			isDarns := string(name) == "darn\n"
			if len(status) > 0 && (!goProgram || isDarns) {
				ids += filepath.Base(task) + " "
			}
			handled = ""
			for line := range strings.Lines(string(status)) {
				switch key, value, _ := strings.Cut(strings.TrimSpace(line), ":"); key {
				case "SigIgn", "SigCgt":
					handled += key + value + " "
				case "SigBlk":
					if isDarns {
						darns += key + value + " "
					} else if !slices.Contains(blocked, value) {
						blocked = append(blocked, value)
					}
				}
			}
		}
		if len(blocked) < 2 || time.Now().After(end) {
			break
		}
	}
	slices.Sort(blocked)
	return ids, handled + darns + strings.Join(blocked, " ")
}

// diff says how after differs; "" if it doesn't.
func (before image) diff(after image) string {
	var d []string
	for k, v := range before {
		if w, ok := after[k]; !ok {
			d = append(d, "- "+k)
		} else if v != w {
			d = append(d, fmt.Sprintf("changed: %s (%s, then %s)", k, v, w))
		}
	}
	for k := range after {
		if _, ok := before[k]; !ok {
			d = append(d, "+ "+k)
		}
	}
	slices.Sort(d)
	return strings.Join(d, "\n")
}
