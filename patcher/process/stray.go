package process

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A breakpoint that a killed debugger has left is an int3 in the text where the file
// that the text is from has something else. Only pages that were written to need be
// looked at: the kernel tells which.

// Known is what Darn has put into a process by design, so that it is told from
// what a killed debugger has left.
type Known struct {
	// Texts are places of the text that may differ from the file.
	Texts []KnownText
	// Modules is a path to the file whose private mappings hold the modules, ""
	// if there is none.
	Modules string
	// Stubs are parts of them that differ from the file as they like.
	Stubs []Span
}

// KnownText is one of several sequences of bytes of the same length, at an
// address.
type KnownText struct {
	Addr     uint64
	Variants [][]byte
}

// Span is a range of addresses.
type Span struct{ Start, End uint64 }

const int3 = 0xcc

// stray is a byte of the text that is an int3 and was none.
type stray struct {
	addr uint64
	was  byte
}

// removeBreakpoints puts back what breakpoints that are left have replaced, and tells
// the catcher. To be called when nobody sets any more.
func (o *orphan) removeBreakpoints() {
	var strays []stray
	if o.breakpoints.Load() {
		before := o.before[:min(max(o.beforeCount, 0), len(o.before))]
		strays = slices.DeleteFunc(strayBreakpoints(o.p.pid, o.p.memory, o.known), func(s stray) bool { return slices.Contains(before, s.addr) })
	}
	o.removed = make(map[uint64]bool)
	var table []byte
	for _, s := range strays {
		o.removed[s.addr] = true
		table = binary.LittleEndian.AppendUint64(table, s.addr)
		_, _ = o.p.memory.WriteAt([]byte{s.was}, int64(s.addr)) // fails if it has ended
	}
	if !o.caught.Load() || len(strays) > catcherMost {
		return // who is in the catcher waits for ten seconds
	}
	// It fails if the tracer had just given its pages back: then nobody is in it.
	at := int64(o.catcher.Load() + catcherTable)
	if _, err := o.p.memory.WriteAt(table, at+8); err == nil {
		_, _ = o.p.memory.WriteAt(binary.LittleEndian.AppendUint64(nil, uint64(len(strays)+1)), at)
	}
}

// strayBreakpoints compares the text of a process with the files that it is from.
func strayBreakpoints(pid int, memory *os.File, know func(pid int) Known) (strays []stray) {
	maps, err := ReadMaps(pid)
	if err != nil {
		return nil
	}
	pagemap, err := os.Open(procPath(pid, "pagemap"))
	if err != nil {
		return nil
	}
	defer pagemap.Close()
	var known Known
	if know != nil {
		known = know(pid)
	}
	for _, m := range maps {
		if !strings.HasPrefix(m.Perms, "r-xp") || m.Inode == 0 {
			continue
		}
		if written := writtenPages(pagemap, m); len(written) > 0 {
			strays = append(strays, compareText(memory, m, fileOf(pid, m, &known), written)...)
		}
	}
	return known.sort(strays, memory)
}

// writtenPages returns the pages of a mapping of a file that are not the file's any
// more: of those that are in memory the kernel marks the file's, see pagemap in the
// kernel's admin guide.
func writtenPages(pagemap *os.File, m Mapping) (pages []uint64) {
	const present, swapped, file = 1 << 63, 1 << 62, 1 << 61
	words := make([]byte, (m.End-m.Start)/catcherPage*8)
	if _, err := pagemap.ReadAt(words, int64(m.Start/catcherPage*8)); err != nil {
		return nil
	}
	for i := 0; i < len(words); i += 8 {
		if w := binary.LittleEndian.Uint64(words[i:]); w&(present|swapped) != 0 && w&file == 0 {
			pages = append(pages, m.Start+uint64(i/8)*catcherPage)
		}
	}
	return pages
}

// fileOf returns where the file of a mapping is read, "" if it is not found.
func fileOf(pid int, m Mapping, known *Known) string {
	for _, path := range []string{
		procPath(pid, fmt.Sprintf("map_files/%x-%x", m.Start, m.End)), // for root only
		procPath(pid, "exe"), known.Modules, procPath(pid, "root") + strings.TrimSuffix(m.Path, " (deleted)"),
	} {
		var st unix.Stat_t
		if path != "" && unix.Stat(path, &st) == nil && st.Ino == m.Inode {
			return path
		}
	}
	return ""
}

// compareText finds the int3s in pages of a mapping that its file has not.
func compareText(memory *os.File, m Mapping, path string, pages []uint64) (strays []stray) {
	file, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer file.Close()
	now, want := make([]byte, catcherPage), make([]byte, catcherPage)
	for _, at := range pages {
		if _, err := memory.ReadAt(now, int64(at)); err != nil {
			return strays
		}
		n, err := file.ReadAt(want, int64(m.Offset+at-m.Start))
		if err != nil && err != io.EOF {
			return strays
		}
		for i := range n {
			if now[i] == int3 && want[i] != int3 {
				strays = append(strays, stray{at + uint64(i), want[i]})
			}
		}
	}
	return strays
}

// sort leaves out what Darn has put there by design, and says what a breakpoint
// hides in it.
func (k *Known) sort(strays []stray, memory *os.File) []stray {
	var sorted []stray
	for _, s := range strays {
		if slices.ContainsFunc(k.Stubs, func(r Span) bool { return s.addr >= r.Start && s.addr < r.End }) {
			continue
		}
		i := slices.IndexFunc(k.Texts, func(t KnownText) bool {
			return len(t.Variants) > 0 && s.addr-t.Addr < uint64(len(t.Variants[0]))
		})
		if i >= 0 {
			variant := k.Texts[i].match(memory)
			if variant == nil {
				continue
			}
			s.was = variant[s.addr-k.Texts[i].Addr]
		}
		if s.was != int3 {
			sorted = append(sorted, s)
		}
	}
	return sorted
}

// match returns the variant that stands there, but for breakpoints; nil if none does,
// or it can't be told which.
func (t *KnownText) match(memory *os.File) (found []byte) {
	now := make([]byte, len(t.Variants[0]))
	if _, err := memory.ReadAt(now, int64(t.Addr)); err != nil {
		return nil
	}
	for _, v := range t.Variants {
		same := len(v) == len(now)
		for i := 0; same && i < len(now); i++ {
			same = now[i] == int3 || now[i] == v[i]
		}
		if same && found != nil && !slices.Equal(found, v) {
			return nil
		}
		if same {
			found = v
		}
	}
	return found
}
