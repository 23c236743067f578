package patcher_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// image is what an operation must leave in a process as it was: its mappings,
// its descriptors, and the bytes of every mapping that is not writable.
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
	return im
}

// diff says how after differs; "" if it doesn't.
func (before image) diff(after image) string {
	var d []string
	for k, v := range before {
		if w, ok := after[k]; !ok {
			d = append(d, "- "+k)
		} else if v != w {
			d = append(d, "changed: "+k)
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
