package cli

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/exe"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/module"
)

// mustRefuse fails the test unless darn has refused with the code, in words.
func (r result) mustRefuse(t *testing.T, code finding.Code, words string) {
	t.Helper()
	if r.code != exitRefused || !strings.Contains(r.stderr, "["+string(code)+"]") || !strings.Contains(r.stderr, words) {
		t.Errorf("exit status %d, stderr %q; want 1, [%s] and %q", r.code, r.stderr, code, words)
	}
}

func TestBadModules(t *testing.T) {
	house := buildTeahouse(t)
	good, err := os.ReadFile(house.patch(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name  string
		file  func(t *testing.T) []byte
		code  finding.Code
		words string
	}{
		{"not an ELF file", func(*testing.T) []byte { return []byte("#!/bin/sh\necho no module\n") },
			finding.ModuleMalformed, "not an ELF"},
		{"empty file", func(*testing.T) []byte { return nil }, finding.ModuleMalformed, ""},
		{"truncated file", func(*testing.T) []byte { return good[:len(good)/2] }, finding.ModuleMalformed, ""},
		{"wrong architecture", func(*testing.T) []byte {
			data := bytes.Clone(good)
			data[18], data[19] = byte(elf.EM_AARCH64), 0 // e_machine
			return data
		}, finding.ModuleMalformed, "EM_AARCH64"},
		{"module for another build", func(t *testing.T) []byte {
			data, err := os.ReadFile(buildTeahouse(t, "-ldflags=-X=main.other=build").patch(t))
			if err != nil {
				t.Fatal(err)
			}
			return data
		}, finding.BuildIDMismatch, "another build"},
		{"function that is not in the target", func(t *testing.T) []byte {
			return changed(t, good, func(m *module.Module) { m.Manifest.Functions[0].Symbol = "main.nowhere" })
		}, finding.SymbolUnresolved, "main.nowhere"},
		{"reference to what is in the target several times", func(t *testing.T) []byte {
			x, err := exe.Open(house.program)
			if err != nil {
				t.Fatal(err)
			}
			defer x.Close()
			twice := slices.IndexFunc(x.Symbols, func(s exe.Symbol) bool {
				_, _, ambiguous := x.Symbol(s.Name)
				return ambiguous
			})
			if twice < 0 {
				t.Fatal("every name in the program is unique")
			}
			return changed(t, good, func(m *module.Module) {
				i := slices.IndexFunc(m.Symbols, func(s module.Symbol) bool { return s.Undefined })
				m.Symbols[i].Name = x.Symbols[twice].Name
			})
		}, finding.SymbolAmbiguous, "the program has several symbols named"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := house.start(t)
			path := filepath.Join(t.TempDir(), "bad.so")
			if err := os.WriteFile(path, test.file(t), 0o644); err != nil {
				t.Fatal(err)
			}
			before := s.snapshot()
			darn(t, "load", s.flag(), path).mustRefuse(t, test.code, test.words)
			darn(t, "inspect", s.flag(), path).mustRefuse(t, test.code, test.words)
			s.mustEqual(before)
			s.mustAnswer(oldBill)
		})
	}
}

// changed is a module with a change.
func changed(t *testing.T, data []byte, change func(*module.Module)) []byte {
	t.Helper()
	m, err := module.Read(data)
	if err != nil {
		t.Fatal(err)
	}
	change(m)
	var b bytes.Buffer
	if err := m.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestRefusalAsJSON reads a refusal as a script does.
func TestRefusalAsJSON(t *testing.T) {
	s := buildTeahouse(t).start(t)
	path := filepath.Join(t.TempDir(), "bad.so")
	if err := os.WriteFile(path, []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := darn(t, "load", "--json", s.flag(), path)
	r.mustRefuse(t, finding.ModuleMalformed, "")
	var refusal struct {
		Error    string
		Findings []finding.Finding
	}
	r.decode(t, &refusal)
	if len(refusal.Findings) == 0 || refusal.Findings[0].Code != finding.ModuleMalformed || refusal.Findings[0].Advice == "" || refusal.Error == "" {
		t.Errorf("refusal %+v", refusal)
	}
}

func TestTextChangedBySomeoneElse(t *testing.T) {
	house := buildTeahouse(t)
	module := house.patch(t)
	s := house.start(t)
	var inspection patcher.Inspection
	darn(t, "inspect", "--json", s.flag(), module).ok(t).decode(t, &inspection)

	memory, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", s.pid), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	// Nobody asks for a bill meanwhile: the function is not run.
	at := int64(inspection.Module.Functions[0].Address) + 20
	old := make([]byte, 1)
	if _, err := memory.ReadAt(old, at); err != nil {
		t.Fatal(err)
	}
	if _, err := memory.WriteAt([]byte{old[0] ^ 0xff}, at); err != nil {
		t.Fatal(err)
	}
	before := s.snapshot()
	darn(t, "load", s.flag(), module).mustRefuse(t, finding.TextMismatch, "main.handleBill")
	s.mustEqual(before)

	if _, err := memory.WriteAt(old, at); err != nil {
		t.Fatal(err)
	}
	s.mustAnswer(oldBill)
}

func TestProcessOfAnotherUser(t *testing.T) {
	house := buildTeahouse(t)
	module := house.patch(t)
	if os.Getuid() != 0 {
		darn(t, "load", "--pid=1", module).mustRefuse(t, finding.UnsupportedTarget, "belongs to user 0")
		return
	}
	s := house.start(t)
	cmd := command("load", s.flag(), module)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	before := s.snapshot()
	run(t, cmd).mustRefuse(t, finding.UnsupportedTarget, "belongs to user 0")
	s.mustEqual(before)
	s.mustAnswer(oldBill)
}

// asTracer makes this test program trace the process with that id until its
// standard input ends.
const asTracer = "DARN_TEST_AS_TRACER"

func trace(pid string) {
	runtime.LockOSThread()
	n, err := strconv.Atoi(pid)
	if err == nil {
		err = unix.PtraceSeize(n)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("tracing")
	_, _ = os.Stdin.Read(make([]byte, 1))
	os.Exit(0)
}

func TestProcessThatIsTraced(t *testing.T) {
	house := buildTeahouse(t)
	module := house.patch(t)
	s := house.start(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	tracer := exec.Command(self)
	tracer.Env = append(os.Environ(), fmt.Sprintf("%s=%d", asTracer, s.pid))
	if _, err := tracer.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	startLine(t, tracer, "tracing")
	before := s.snapshot()
	darn(t, "load", s.flag(), module).mustRefuse(t, finding.Busy, fmt.Sprintf("already traced by process %d", tracer.Process.Pid))
	s.mustEqual(before)
	s.mustAnswer(oldBill)
}

// TestProcessThatExits ends the target at many moments of a load.
func TestProcessThatExits(t *testing.T) {
	house := buildTeahouse(t)
	module := house.patch(t)
	start := time.Now()
	s := house.start(t)
	began := time.Now()
	darn(t, "load", s.flag(), module).ok(t)
	took := time.Since(began)
	t.Logf("a load takes %s (start %s)", took, began.Sub(start))

	const moments = 12
	refused := 0
	for i := range moments {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			c, _, err := startChild("teahouse: ", house.program)
			if err != nil {
				t.Fatal(err)
			}
			time.AfterFunc(took*time.Duration(i)/moments, c.kill)
			r := darn(t, "load", fmt.Sprint("--pid=", c.pid()), module)
			<-c.done
			if r.code == exitDone {
				return // it was faster
			}
			refused++
			r.mustRefuse(t, finding.TargetExited, fmt.Sprint(c.pid()))
		})
	}
	if refused == 0 {
		t.Error("no load met an exit")
	}
}

func TestNoSuchProcess(t *testing.T) {
	module := buildTeahouse(t).patch(t)
	darn(t, "load", "--pid=4194304", module).mustRefuse(t, finding.TargetExited, "no process 4194304")
}

// No compiler runs and no process is stopped to find out that it is no use.
func TestUnsupportedBuildIsNamedAtOnce(t *testing.T) {
	module := buildTeahouse(t).patch(t)
	house := buildTeahouse(t, "-race")
	s := house.start(t)
	for _, args := range [][]string{{"load", module}, {"inspect", module}, {"list"}, {"build", "-o", filepath.Join(t.TempDir(), "m.so")}} {
		darn(t, append(args, s.flag())...).mustRefuse(t, finding.UnsupportedBuild, "built with -race (the race detector)")
	}
	s.mustAnswer(oldBill)
}

func TestModuleOfGoForAnotherProgram(t *testing.T) {
	module := buildTeahouse(t).patch(t)
	cat := exec.Command("cat")
	if _, err := cat.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cat.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cat.Process.Kill(); err != nil {
			t.Error("the target has ended:", err)
		}
		_ = cat.Wait()
	})
	darn(t, "load", fmt.Sprint("--pid=", cat.Process.Pid), module).mustRefuse(t, finding.UnsupportedBuild, "is a module for go programs")
}
