package process

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/darn-dev/darn/patcher/finding"
)

// Mapping is one line of /proc/PID/maps.
type Mapping struct {
	Start, End uint64 // addresses
	Perms      string // as the kernel prints them: r or -, w or -, x or -, then p(rivate) or s(hared)
	Offset     uint64 // into the file, in bytes
	Device     string // major:minor
	Inode      uint64 // 0 if no file is mapped
	Path       string // of the file, or a name like [stack]; may be ""
}

// Maps returns the mappings in the order of their addresses, whether the target
// runs or not. An ended target is refused with target-exited.
func (p *Process) Maps() ([]Mapping, error) {
	data, err := os.ReadFile(procPath(p.pid, "maps"))
	if err != nil || !p.Alive() {
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil, exited(p.pid, nil)
		}
		return nil, p.explain(err)
	}
	return parseMaps(string(data))
}

// ReadMaps returns the mappings of a process that need not be traced, in the
// order of their addresses.
func ReadMaps(pid int) ([]Mapping, error) {
	data, err := os.ReadFile(procPath(pid, "maps"))
	if err != nil {
		return nil, err
	}
	return parseMaps(string(data))
}

func parseMaps(data string) ([]Mapping, error) {
	var maps []Mapping
	for line := range strings.Lines(data) {
		m, err := parseMapping(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return nil, err
		}
		maps = append(maps, m)
	}
	return maps, nil
}

func parseMapping(line string) (m Mapping, err error) {
	// start-end perms offset device inode   path, where the path may have blanks
	f := strings.SplitN(line, " ", 6)
	if len(f) < 5 || len(f[1]) != 4 {
		return m, fmt.Errorf("not a line of a memory map: %q", line)
	}
	start, end, ok := strings.Cut(f[0], "-")
	if !ok {
		return m, fmt.Errorf("not a line of a memory map: %q", line)
	}
	for _, n := range []struct {
		to   *uint64
		text string
		base int
	}{{&m.Start, start, 16}, {&m.End, end, 16}, {&m.Offset, f[2], 16}, {&m.Inode, f[4], 10}} {
		if *n.to, err = strconv.ParseUint(n.text, n.base, 64); err != nil {
			return m, fmt.Errorf("not a line of a memory map: %q: %w", line, err)
		}
	}
	m.Perms, m.Device = f[1], f[3]
	if len(f) == 6 {
		m.Path = strings.TrimLeft(f[5], " ")
	}
	return m, nil
}

func procPath(pid int, name string) string {
	return "/proc/" + strconv.Itoa(pid) + "/" + name
}

// readStatus reads /proc/PID/status; pid may be a thread's.
func readStatus(pid int) (map[string]string, error) {
	data, err := os.ReadFile(procPath(pid, "status"))
	if err != nil {
		return nil, err
	}
	s := make(map[string]string)
	for line := range strings.Lines(string(data)) {
		if k, v, ok := strings.Cut(line, ":"); ok {
			s[k] = strings.TrimSpace(v)
		}
	}
	return s, nil
}

// readProgram reads the header of the program's file, and refuses what is not
// an executable for linux/amd64.
func readProgram(pid int) (*elf.FileHeader, error) {
	refuse := func(what string) error {
		return finding.Refuse(finding.UnsupportedTarget, fmt.Sprintf("process %d: %s", pid, what),
			"only linux/amd64 programs can be patched")
	}
	f, err := os.Open(procPath(pid, "exe"))
	if errors.Is(err, fs.ErrNotExist) {
		if ends(pid, false, processLives) {
			return nil, exited(pid, nil)
		}
		return nil, refuse("it has no program file: it is a kernel thread")
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	program, err := elf.NewFile(f)
	if err != nil {
		return nil, refuse(fmt.Sprintf("its program is no ELF file: %v", err))
	}
	defer program.Close()
	if program.Machine != elf.EM_X86_64 || program.Class != elf.ELFCLASS64 {
		return nil, refuse(fmt.Sprintf("its program is for %v (%v)", program.Machine, program.Class))
	}
	if program.Type != elf.ET_EXEC && program.Type != elf.ET_DYN {
		return nil, refuse(fmt.Sprintf("its program is of type %v", program.Type))
	}
	return &program.FileHeader, nil
}

// loadBias returns the difference between where the process's entry point is
// and where its file says it is.
func loadBias(pid int, entry uint64) (uint64, error) {
	const atEntry = 9 // AT_ENTRY, elf.h
	auxv, err := os.ReadFile(procPath(pid, "auxv"))
	if err != nil {
		return 0, err
	}
	for ; len(auxv) >= 16; auxv = auxv[16:] {
		if binary.LittleEndian.Uint64(auxv) == atEntry {
			return binary.LittleEndian.Uint64(auxv[8:]) - entry, nil
		}
	}
	return 0, fmt.Errorf("process %d has no AT_ENTRY in its auxiliary vector", pid)
}

// Root returns where a path of the process's own file system is found here.
func (p *Process) Root(path string) string { return procPath(p.pid, "root") + path }

// MapFile returns a path at which the file of a mapping is found even if it was
// deleted; that takes privileges.
func (p *Process) MapFile(m Mapping) string {
	return procPath(p.pid, "map_files") + fmt.Sprintf("/%x-%x", m.Start, m.End)
}

// Exclusive tells whether the page at an address is in memory and is the
// process's alone: one that it shares with a child that it has forked since it
// last wrote there is not. A fork that has not copied the page yet copies it as it
// is after Exclusive has returned. The target may run or be stopped.
func (p *Process) Exclusive(addr uint64) (bool, error) {
	// Documentation/admin-guide/mm/pagemap.rst
	const entrySize, present, exclusive = 8, 1 << 63, 1 << 56
	// Reading takes the lock on the address space that a fork holds as it copies.
	f, err := os.Open(procPath(p.pid, "pagemap"))
	if err != nil {
		return false, err
	}
	defer f.Close()
	var b [entrySize]byte
	if _, err := f.ReadAt(b[:], int64(addr/4096*entrySize)); err != nil {
		return false, err
	}
	entry := binary.LittleEndian.Uint64(b[:])
	return entry&present != 0 && entry&exclusive != 0, nil
}
