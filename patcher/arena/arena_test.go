package arena

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/internal/targettest"
	"github.com/darn-dev/darn/patcher/process"
)

func TestReleaseLeavesMapsAndDescriptorsAsBefore(t *testing.T) {
	target := start(t, "cthreads.c", "rounds=")
	p := attach(t, target)
	mapsBefore, fdsBefore := maps(t, p), descriptors(t, p.Pid())
	a := reserve(t, p)
	addr, err := a.Alloc(10*pageSize, 0)
	if err != nil {
		t.Fatal(err)
	}
	copy(a.View(addr, 5), "hello")
	halt(t, p, func(h *process.Halt) error {
		return errors.Join(a.Map(h, addr, pageSize, unix.PROT_READ|unix.PROT_EXEC),
			a.Map(h, addr+pageSize, 2*pageSize, unix.PROT_READ|unix.PROT_WRITE))
	})
	if slices.Equal(maps(t, p), mapsBefore) || slices.Equal(descriptors(t, p.Pid()), fdsBefore) {
		t.Fatal("the arena shows neither in the maps nor in the descriptors")
	}
	halt(t, p, a.Release)
	if now := maps(t, p); !slices.Equal(now, mapsBefore) {
		t.Errorf("the maps are\n%v\nwere\n%v", now, mapsBefore)
	}
	if now := descriptors(t, p.Pid()); !slices.Equal(now, fdsBefore) {
		t.Errorf("the descriptors are\n%v\nwere\n%v", now, fdsBefore)
	}
	// And it can be had again.
	halt(t, p, a.Reserve)
	halt(t, p, a.Release)
	if now := maps(t, p); !slices.Equal(now, mapsBefore) {
		t.Errorf("the maps are\n%v\nwere\n%v", now, mapsBefore)
	}
	target.MustLive()
}

func TestArenaIsAboveTheTextOfAGoProgramAndInReach(t *testing.T) {
	target := start(t, "goserver", "addr ")
	p := attach(t, target)
	a := reserve(t, p)
	where := text(t, p)
	if a.Base() < where.End || a.Base()+a.Size()-where.Start > 1<<31 {
		t.Errorf("the arena is at [%#x, %#x), the text at [%#x, %#x)", a.Base(), a.Base()+a.Size(), where.Start, where.End)
	}
	// The kernel puts the program break anywhere in the first GiB above the
	// text: on its one side or the other there is room for half the usual size.
	if a.Size() < usualSize/2 {
		t.Errorf("the arena has %d MiB", a.Size()>>20)
	}
	for _, m := range maps(t, p) {
		if m.Start < a.Base() && m.End > a.Base() || m.Start < a.Base()+a.Size() && m.End > a.Base()+a.Size() {
			t.Errorf("%+v overlaps the arena's end", m)
		}
	}
	target.Get("/check")
}

func TestNothingIsWritableAndExecutable(t *testing.T) {
	target := start(t, "cthreads.c", "ready")
	p := attach(t, target)
	a := reserve(t, p)
	addr, err := a.Alloc(4*pageSize, 0)
	if err != nil {
		t.Fatal(err)
	}
	halt(t, p, func(h *process.Halt) error {
		mustSay(t, a.Map(h, addr, pageSize, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC), "writable and executable at once")
		return errors.Join(a.Map(h, addr, pageSize, unix.PROT_READ|unix.PROT_EXEC),
			a.Map(h, addr+pageSize, pageSize, unix.PROT_READ|unix.PROT_WRITE),
			a.Map(h, addr+2*pageSize, pageSize, unix.PROT_READ))
	})
	var perms []string
	for _, m := range maps(t, p) {
		if strings.Contains(m.Perms, "w") && strings.Contains(m.Perms, "x") {
			t.Errorf("%+v is writable and executable", m)
		}
		if m.Start >= a.Base() && m.End <= a.Base()+a.Size() {
			perms = append(perms, m.Perms)
		}
	}
	if want := []string{"r--s", "---p", "r-xp", "rw-p", "r--p", "---p"}; !slices.Equal(perms, want) {
		t.Errorf("the arena's permissions are %v, want %v", perms, want)
	}
	for path, what := range map[string]string{"/proc/self/maps": "this process", "/proc/" + strconv.Itoa(p.Pid()) + "/maps": "the target"} {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(data), "rwx") {
			t.Errorf("%s has a mapping that is writable and executable", what)
		}
	}
}

// The target calls a function in the arena, instead of its own, that counts in
// data of the arena.
func TestTargetExecutesWhatIsMapped(t *testing.T) {
	target := start(t, "cthreads.c", "ready")
	p := attach(t, target)
	a := reserve(t, p)
	code, err := a.Alloc(2*pageSize, 0)
	if err != nil {
		t.Fatal(err)
	}
	counter := code + pageSize
	// lock incq counter(%rip); lea 42(%rdi), %eax; ret
	function := []byte{0xf0, 0x48, 0xff, 0x05, 0, 0, 0, 0, 0x8d, 0x47, 0x2a, 0xc3}
	binary.LittleEndian.PutUint32(function[4:], uint32(counter-(code+8)))
	copy(a.View(code, 100), function)
	halt(t, p, func(h *process.Halt) error {
		return errors.Join(a.Map(h, code, pageSize, unix.PROT_READ|unix.PROT_EXEC),
			a.Map(h, counter, pageSize, unix.PROT_READ|unix.PROT_WRITE))
	})

	entry, size := symbol(t, p, "answer")
	if size < 5 {
		t.Fatalf("the function has %d bytes", size)
	}
	jump := []byte{0xe9, 0, 0, 0, 0}
	binary.LittleEndian.PutUint32(jump[1:], uint32(code-(entry+5)))
	old := make([]byte, len(jump))
	if err := p.ReadMemory(old, entry); err != nil {
		t.Fatal(err)
	}
	write := func(from, to []byte) {
		targettest.Eventually(t, "no thread is in the way", func() bool {
			free := true
			halt(t, p, func(h *process.Halt) error {
				threads, err := h.Threads()
				for _, th := range threads {
					free = free && (th.PC <= entry || th.PC >= entry+size)
				}
				if err != nil || !free {
					return err
				}
				return h.WriteText(entry, from, to)
			})
			return free
		})
	}
	count := func() uint64 {
		var b [8]byte
		if err := p.ReadMemory(b[:], counter); err != nil {
			t.Fatal(err)
		}
		return binary.LittleEndian.Uint64(b[:])
	}
	write(old, jump)
	targettest.Eventually(t, "the function is called", func() bool { target.MustLive(); return count() > 1000 })
	if !bytes.Equal(a.View(counter, 8), make([]byte, 8)) {
		t.Error("the target's data is not its own")
	}
	write(jump, old)
	last := count()
	target.Line("rounds=")
	if now := count(); now != last {
		t.Errorf("the function was called %d times after it was taken out", now-last)
	}
	halt(t, p, a.Release)
	target.MustLive()
}

func TestViewIsSeenByTheRunningTarget(t *testing.T) {
	target := start(t, "cthreads.c", "ready")
	p := attach(t, target)
	a := reserve(t, p)
	addr, err := a.Alloc(100, 0)
	if err != nil {
		t.Fatal(err)
	}
	halt(t, p, func(h *process.Halt) error { return a.Map(h, addr, 100, unix.PROT_READ) })
	copy(a.View(addr, 100), "seen")
	got := make([]byte, 4)
	if err := p.ReadMemory(got, addr); err != nil || string(got) != "seen" {
		t.Errorf("the target has %q, %v", got, err)
	}
}

func TestUnmapGivesMemoryBack(t *testing.T) {
	target := start(t, "cthreads.c", "ready")
	p := attach(t, target)
	a := reserve(t, p)
	const n = 8 << 20
	addr, err := a.Alloc(n, 0)
	if err != nil {
		t.Fatal(err)
	}
	blocks := func() int64 {
		var st unix.Stat_t
		if err := unix.Fstat(a.file, &st); err != nil {
			t.Fatal(err)
		}
		return st.Blocks * 512
	}
	empty := blocks()
	halt(t, p, func(h *process.Halt) error { return a.Map(h, addr, n, unix.PROT_READ) })
	for view := a.View(addr, n); len(view) > 0; view = view[pageSize:] {
		view[0] = 1
	}
	if used := blocks(); used < n {
		t.Errorf("%d bytes are used after writing %d", used, n)
	}
	halt(t, p, func(h *process.Halt) error { return a.Unmap(h, addr, n) })
	if used := blocks(); used != empty {
		t.Errorf("%d bytes are used after unmapping, %d before", used, empty)
	}
	if err := p.ReadMemory(make([]byte, 1), addr); err == nil {
		// ptrace reaches inaccessible anonymous memory too: it must be zeros.
		b := make([]byte, 100)
		if err := p.ReadMemory(b, addr); err != nil || !bytes.Equal(b, make([]byte, 100)) {
			t.Errorf("unmapped memory reads % x, %v", b, err)
		}
	}
}

func TestSwitchIsSeenByAForkedChild(t *testing.T) {
	target := start(t, "forker.c", "ready")
	p := attach(t, target)
	a := reserve(t, p)
	sw, err := a.NewSwitch()
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(target.Pid(), unix.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	child := target.Line("child ")
	memory, err := os.Open("/proc/" + child + "/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	for _, on := range []bool{true, false, true} {
		if err := a.SetSwitches(Position{sw, on}); err != nil {
			t.Fatal(err)
		}
		var inChild, inParent [1]byte
		if _, err := memory.ReadAt(inChild[:], int64(sw)); err != nil {
			t.Fatal(err)
		}
		if err := p.ReadMemory(inParent[:], sw); err != nil {
			t.Fatal(err)
		}
		if (inChild[0] == 1) != on || inParent != inChild || a.Switch(sw) != on {
			t.Errorf("the switch is %v, the parent reads %d and the child %d", on, inParent[0], inChild[0])
		}
	}
}

func TestSecondDarnFindsEverything(t *testing.T) {
	target := start(t, "cthreads.c", "ready")
	first := attach(t, target)
	if _, err := Open(first); err != ErrNone {
		t.Fatalf("opening an arena that is not there: %v", err)
	}
	a := reserve(t, first)
	if state, err := a.Load(); state != nil || err != nil {
		t.Errorf("a new arena holds %q, %v", state, err)
	}
	addr, err := a.Alloc(3*pageSize, 0)
	if err != nil {
		t.Fatal(err)
	}
	on, _ := a.NewSwitch()
	off, _ := a.NewSwitch()
	copy(a.View(addr, 5), "hello")
	halt(t, first, func(h *process.Halt) error { return a.Map(h, addr, pageSize, unix.PROT_READ) })
	if err := errors.Join(a.SetSwitches(Position{on, true}), a.Save([]byte("old")), a.Save([]byte("new")), a.Close(), first.Close()); err != nil {
		t.Fatal(err)
	}

	second := attach(t, target)
	b, err := Open(second)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if b.Base() != a.Base() || b.Size() != a.Size() {
		t.Errorf("the arena is at %#x with %#x bytes, was at %#x with %#x", b.Base(), b.Size(), a.Base(), a.Size())
	}
	if state, err := b.Load(); string(state) != "new" || err != nil {
		t.Errorf("the registry is %q, %v", state, err)
	}
	if err := errors.Join(b.Claim(addr, 3*pageSize), b.ClaimSwitch(on), b.ClaimSwitch(off)); err != nil {
		t.Error(err)
	}
	if !b.Switch(on) || b.Switch(off) {
		t.Errorf("the switches are %v and %v", b.Switch(on), b.Switch(off))
	}
	if got := b.View(addr, 5); string(got) != "hello" {
		t.Errorf("the module is %q", got)
	}
	if third, err := b.NewSwitch(); err != nil || third == on || third == off {
		t.Errorf("a new switch is %#x, %v", third, err)
	}
	if more, err := b.Alloc(pageSize, 0); err != nil || more < addr+3*pageSize {
		t.Errorf("a new range is at %#x, %v; %#x is taken", more, err, addr)
	}
	halt(t, second, func(h *process.Halt) error { return b.Map(h, addr+pageSize, pageSize, unix.PROT_READ|unix.PROT_EXEC) })
	halt(t, second, b.Release)
	if _, err := Open(second); err != ErrNone {
		t.Errorf("opening a released arena: %v", err)
	}
	target.MustLive()
}

func TestForgedArenaIsRefused(t *testing.T) {
	for how, want := range map[string]string{
		"unsealed": "its memfd is not sealed as it must be",
		"readonly": "its memfd is not sealed as it must be",
		"hugetlb":  "it is not in ordinary memory",
		"huge":     "its memfd has 1099511627776 bytes",
		"empty":    "its memfd has 4096 bytes",
		"magic":    "its header is damaged",
		"version":  "it has version 1000, this darn knows 2",
		"size":     "its size is not what its header says",
		"closed":   "its descriptor is closed",
	} {
		t.Run(how, func(t *testing.T) {
			if _, err := os.Stat("/sys/kernel/mm/hugepages/hugepages-2048kB"); err != nil && how == "hugetlb" {
				t.Skip("the kernel has no huge pages")
			}
			target := start(t, "forger.c", "ready", how)
			_, err := Open(attach(t, target))
			mustSay(t, err, want, string(finding.UnsupportedTarget), "restart the program")
		})
	}
}

func TestForgedRegistryIsRefused(t *testing.T) {
	target := start(t, "forger.c", "ready", "garbage")
	a, err := Open(attach(t, target))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	_, err = a.Load()
	mustSay(t, err, "the registry in the target's arena is damaged", string(finding.UnsupportedTarget))
}

// Inode numbers of memfds begin where those of devices do: /dev/null, a
// program's standard input as often as not, may have the same.
func TestAFileOfTheSameInodeNumberIsNotTheArena(t *testing.T) {
	target := start(t, "cthreads.c", "ready")
	p := attach(t, target)
	a, err := Plan(p, text(t, p))
	if err != nil {
		t.Fatal(err)
	}
	halt(t, p, a.Reserve)
	var null unix.Stat_t
	if err := unix.Stat("/dev/null", &null); err != nil {
		t.Fatal(err)
	}
	other := &Arena{pid: p.Pid(), id: fileID{a.id.device, null.Ino}} // fd 0
	if err := other.checkDescriptor(); finding.CodeOf(err) != finding.UnsupportedTarget {
		t.Errorf("standard input is taken for the arena: %v", err)
	}
	halt(t, p, a.Release)
}

func TestClosedDescriptorIsNoticed(t *testing.T) {
	target := start(t, "cthreads.c", "ready")
	p := attach(t, target)
	a := reserve(t, p)
	addr, err := a.Alloc(pageSize, 0)
	if err != nil {
		t.Fatal(err)
	}
	halt(t, p, func(h *process.Halt) error {
		if _, err := h.Syscall(unix.SYS_DUP2, 1, a.fd); err != nil {
			return err
		}
		mustSay(t, a.Map(h, addr, pageSize, unix.PROT_READ), "has closed descriptor", string(finding.UnsupportedTarget))
		return a.Release(h) // and leaves what is not its own
	})
	if fds := descriptors(t, p.Pid()); !slices.ContainsFunc(fds, func(s string) bool { return strings.HasPrefix(s, strconv.FormatUint(a.fd, 10)+" ") }) {
		t.Errorf("the target's own descriptor was closed: %v", fds)
	}
}

func TestRefusedMemoryLeavesTheTargetAsBefore(t *testing.T) {
	target := start(t, "cthreads.c", "rounds=")
	p := attach(t, target)
	before := maps(t, p)
	a, err := Plan(p, text(t, p))
	if err != nil {
		t.Fatal(err)
	}
	// A descriptor limit lets the reservation through and not the memfd.
	var old unix.Rlimit
	if err := unix.Prlimit(p.Pid(), unix.RLIMIT_NOFILE, nil, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Prlimit(p.Pid(), unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: old.Max}, nil); err != nil {
		t.Fatal(err)
	}
	err = p.Halt(t.Context(), a.Reserve)
	mustSay(t, err, "create a memfd", "too many open files", string(finding.UnsupportedTarget))
	if now := maps(t, p); !slices.Equal(now, before) {
		t.Errorf("the maps are\n%v\nwere\n%v", now, before)
	}
	if err := unix.Prlimit(p.Pid(), unix.RLIMIT_NOFILE, &old, nil); err != nil {
		t.Fatal(err)
	}
	halt(t, p, a.Reserve)
	halt(t, p, a.Release)
	target.MustLive()
}

func TestPlaceTakenMeanwhileIsRefused(t *testing.T) {
	target := start(t, "cthreads.c", "ready")
	p := attach(t, target)
	a, err := Plan(p, text(t, p))
	if err != nil {
		t.Fatal(err)
	}
	halt(t, p, func(h *process.Halt) error {
		_, err := h.Syscall(unix.SYS_MMAP, a.Base()+pageSize, pageSize, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED, ^uint64(0), 0)
		return err
	})
	mustSay(t, p.Halt(t.Context(), a.Reserve), "has mapped something", string(finding.OutOfRange))
	target.MustLive()
}

func BenchmarkReserve(b *testing.B) {
	target := start(b, "goserver", "addr ")
	p := attach(b, target)
	a, err := Plan(p, text(b, p))
	if err != nil {
		b.Fatal(err)
	}
	halt(b, p, func(h *process.Halt) error {
		for b.Loop() {
			if err := errors.Join(a.Reserve(h), a.Release(h)); err != nil {
				return err
			}
		}
		return nil
	})
}
