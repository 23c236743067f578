package arena

import (
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/process"
)

// Open finds the arena that an earlier Darn left in p, in either state of the
// target. Nothing is set aside in it: see Claim and ClaimSwitch. It returns
// ErrNone if there's no arena, and is refused with unsupported-target if there
// is one that is not what it says.
func Open(p *process.Process) (*Arena, error) {
	maps, err := p.Maps()
	if err != nil {
		return nil, err
	}
	a, err := open(p.Pid(), maps)
	if err != nil {
		return nil, err
	}
	a.p = p
	return a, nil
}

// Peek returns the registry in the arena of a process that need not be traced,
// and is not touched; nil if nothing was ever saved. It fails as Open does, and
// if the process is not the caller's to look into.
func Peek(pid int) ([]byte, error) {
	maps, err := process.ReadMaps(pid)
	if err != nil {
		return nil, err
	}
	a, err := open(pid, maps)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	return a.Load()
}

// File returns a path to the arena's file in a process that need not be traced.
// It fails as Open does.
func File(pid int) (string, error) {
	maps, err := process.ReadMaps(pid)
	if err != nil {
		return "", err
	}
	a, err := locate(pid, maps)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("/proc/%d/fd/%d", pid, a.fd), nil
}

func open(pid int, maps []process.Mapping) (*Arena, error) {
	a, err := locate(pid, maps)
	if err != nil {
		return nil, err
	}
	if err := a.adopt(); err != nil {
		_ = a.close()
		return nil, err
	}
	return a, nil
}

// locate finds the switch page by its name and sharing, and the descriptor that
// is the same file.
func locate(pid int, maps []process.Mapping) (*Arena, error) {
	for _, m := range maps {
		if !isSwitches(m) {
			continue
		}
		a := &Arena{pid: pid, base: m.Start - switchesAt, id: fileID{m.Device, m.Inode}, file: -1}
		fds, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/fd")
		if err != nil {
			return nil, err
		}
		for _, e := range fds {
			fd, err := strconv.ParseUint(e.Name(), 10, 32)
			if err != nil {
				continue
			}
			a.fd = fd
			if a.checkDescriptor() == nil {
				return a, nil
			}
		}
		return nil, unusable(pid, "its descriptor is closed")
	}
	return nil, ErrNone
}

// adopt maps the file, if it is what it must be. The target's owner, who is
// nobody to trust, may have made it.
func (a *Arena) adopt() error {
	id := a.id
	if err := a.open(); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(a.file, &st); err != nil {
		return err
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(a.file, &fs); err != nil {
		return err
	}
	got, err := unix.FcntlInt(uintptr(a.file), unix.F_GET_SEALS, 0)
	switch {
	case identify(&st) != id:
		return unusable(a.pid, "its descriptor is another file")
	case fs.Type != unix.TMPFS_MAGIC:
		// On huge pages a touch of the mapping can fail, which ends Darn.
		return unusable(a.pid, "it is not in ordinary memory")
	case err != nil || got&(seals|unix.F_SEAL_WRITE|unix.F_SEAL_FUTURE_WRITE) != seals:
		return unusable(a.pid, "its memfd is not sealed as it must be")
	case st.Size < leastSize || st.Size > usualSize || st.Size%pageSize != 0:
		return unusable(a.pid, fmt.Sprintf("its memfd has %d bytes", st.Size))
	}
	a.size = uint64(st.Size)
	if err := a.mapHere(); err != nil {
		return err
	}
	header := a.mem[headerAt:]
	switch {
	case string(header[:8]) != magic:
		return unusable(a.pid, "its header is damaged")
	case binary.LittleEndian.Uint64(header[8:]) != version:
		return unusable(a.pid, fmt.Sprintf("it has version %d, this darn knows %d", binary.LittleEndian.Uint64(header[8:]), version))
	case binary.LittleEndian.Uint64(header[16:]) != a.size:
		return unusable(a.pid, "its size is not what its header says")
	}
	return nil
}

// Foreign returns what of the mappings in a range is none of the arena's file, nil
// if there is nothing; what is kept free is nothing.
func (a *Arena) Foreign(maps []process.Mapping, addr, n uint64) *process.Mapping {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, m := range maps {
		free := m.Inode == 0 && strings.HasPrefix(m.Perms, "---")
		if m.Start < addr+n && addr < m.End && !free && (fileID{m.Device, m.Inode}) != a.id {
			return &maps[i]
		}
	}
	return nil
}

func unusable(pid int, why string) error {
	return finding.Refuse(finding.UnsupportedTarget,
		fmt.Sprintf("process %d has an arena of Darn's that can't be used: %s", pid, why),
		"use the darn that made it, or restart the program")
}
