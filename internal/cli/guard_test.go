package cli

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/darn-dev/darn/internal/guard"
	"github.com/darn-dev/darn/patcher/finding"
)

// shopProgram is the path of a program of C, built once.
var shopProgram = sync.OnceValues(func() (string, error) {
	out, from := filepath.Join(shared, "shop"), "../../testdata/targets/cshop/"
	output, err := exec.Command("gcc", "-g", "-O2", "-pthread", "-o", out, from+"shop.c", from+"a.c", from+"b.c").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, output)
	}
	return out, err
})

// startShop starts the program with a number of threads that call all the time;
// the main one calls too, 50 times a second.
func startShop(t *testing.T, threads string) *exec.Cmd {
	t.Helper()
	path, err := shopProgram()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, threads)
	startLine(t, cmd, "ready")
	return cmd
}

func pidFlag(cmd *exec.Cmd) string { return fmt.Sprint("--pid=", cmd.Process.Pid) }

func sign(t *testing.T, key, path string) {
	t.Helper()
	darn(t, "sign", "--key", key, path).ok(t)
}

// TestSignedModules goes from a key to a loaded patch, with modules of a compiler
// alone and of darn build, and shows what is refused on the way.
func TestSignedModules(t *testing.T) {
	dir := t.TempDir()
	keys := filepath.Join(dir, "keys")
	if err := os.Mkdir(keys, 0o755); err != nil {
		t.Fatal(err)
	}
	key, foreign := filepath.Join(keys, "ann"), filepath.Join(dir, "eve")
	made := darn(t, "keygen", "-o", key).ok(t)
	darn(t, "keygen", "-o", foreign).ok(t)
	if r := darn(t, "keygen", "-o", key); r.code != exitRefused || !strings.Contains(r.stderr, "a key is never written over") {
		t.Errorf("keygen again: %d %s", r.code, r.stderr)
	}
	_, fingerprint, _ := strings.Cut(strings.TrimSpace(made.stdout), "fingerprint ")

	source := writeC(t, "fix.c", "extern int rate; int total(int n) { return n * 100 + rate; }\n")
	plain := gcc(t, "-shared", "-fPIC", source)
	shop := startShop(t, "0")
	require := "--require-signature=" + keys
	load := func(module string, flags ...string) result {
		return darn(t, append([]string{"load", pidFlag(shop), module}, flags...)...)
	}
	load(plain, require).mustRefuse(t, finding.SignatureRequired, "the module is not signed, and has to be by one of the keys in "+keys)
	darn(t, "inspect", require, plain).mustRefuse(t, finding.SignatureRequired, "the module could not be loaded")
	darn(t, "inspect", require, pidFlag(shop), plain).mustRefuse(t, finding.SignatureRequired, "the module could not be loaded")
	sign(t, foreign, plain)
	load(plain, require, "--force").mustRefuse(t, finding.SignatureInvalid, "which is not among those in "+keys)
	sign(t, key, plain)
	for _, args := range [][]string{{"inspect", require, plain}, {"inspect", require, pidFlag(shop), plain}} {
		if r := darn(t, args...).ok(t); !strings.Contains(r.stdout, "signed by "+fingerprint+" (ann.pub)\n") {
			t.Errorf("%v says %q", args, r.stdout)
		}
	}
	load(plain, require).ok(t)
	darn(t, "activate", pidFlag(shop), plain).ok(t)
	darn(t, "deactivate", pidFlag(shop), plain).ok(t)
	darn(t, "unload", pidFlag(shop), plain).ok(t)

	data, err := os.ReadFile(plain)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/3] ^= 1
	if err := os.WriteFile(plain, data, 0o755); err != nil {
		t.Fatal(err)
	}
	load(plain).mustRefuse(t, finding.SignatureInvalid, "the module was changed after it was signed")

	built := filepath.Join(dir, "built.so")
	darn(t, "build", "--target", shop.Path, "--sign", key, "-o", built, source).ok(t)
	load(built, require).ok(t)

	house := buildTeahouse(t)
	cmd := command("build", "--target", house.program, "--base", house.base, "--sign", key, "-o", filepath.Join(dir, "go.so"), ".")
	cmd.Dir = house.source
	run(t, cmd).ok(t)
	if r := darn(t, "inspect", require, filepath.Join(dir, "go.so")).ok(t); !strings.Contains(r.stdout, "signed by "+fingerprint) {
		t.Errorf("inspect says %q", r.stdout)
	}
}

// TestThePolicyBindsTheCommands: signatures, force, the audit log, and that nothing
// is done when it can't be followed.
func TestThePolicyBindsTheCommands(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, whose files a policy is made of")
	}
	dir := t.TempDir()
	key, log := filepath.Join(dir, "admin"), filepath.Join(dir, "log")
	darn(t, "keygen", "-o", key).ok(t)
	policy := func(text string) {
		t.Helper()
		if err := os.WriteFile(testPolicy(), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	defer os.Remove(testPolicy())
	policy("require-signature = " + key + ".pub\nallow-force = no\naudit = " + log + "\naudit-required = yes\n")
	module := gcc(t, "-shared", "-fPIC", writeC(t, "fix.c", "int total(int n) { return n; }\n"))
	shop := startShop(t, "0")
	darn(t, "load", pidFlag(shop), module).mustRefuse(t, finding.SignatureRequired, "one of the keys in "+key+".pub")
	darn(t, "load", "--force", pidFlag(shop), module).mustRefuse(t, finding.NotPermitted, "does not allow that anything is forced")
	sign(t, key, module)
	darn(t, "load", pidFlag(shop), module).ok(t)
	darn(t, "activate", pidFlag(shop), module).ok(t)
	darn(t, "list", pidFlag(shop)).ok(t)

	policy("require-signature = relative\n")
	for _, args := range [][]string{{"deactivate", pidFlag(shop), module}, {"list", pidFlag(shop)}, {"inspect", module}, {"dap"}} {
		darn(t, args...).mustRefuse(t, finding.NotPermitted, "nothing is done, since the policy in "+testPolicy()+" can't be followed: line 1: ")
	}
	policy("")
	darn(t, "deactivate", pidFlag(shop), module).ok(t)

	data, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	for line := range strings.Lines(string(data)) {
		var r guard.Record
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		if r.PID != shop.Process.Pid || r.Exe != shop.Path || r.User == "" {
			t.Errorf("the record is %+v", r)
		}
		said = append(said, strings.TrimSpace(r.Operation+" "+r.Patch+" "+r.Result))
	}
	want := []string{"load  begun", "load  signature-required", "load  not-permitted", "load  begun", "load 1 done", "activate  begun", "activate 1 done"}
	if strings.Join(said, "\n") != strings.Join(want, "\n") {
		t.Errorf("the log says\n%s\nwant\n%s", strings.Join(said, "\n"), strings.Join(want, "\n"))
	}
}

func TestAModuleThatOthersCanChange(t *testing.T) {
	module := gcc(t, "-shared", "-fPIC", writeC(t, "fix.c", "int total(int n) { return n; }\n"))
	if err := os.Chmod(module, 0o666); err != nil {
		t.Fatal(err)
	}
	shop := startShop(t, "0")
	darn(t, "load", pidFlag(shop), module).mustRefuse(t, finding.ModuleWritable, "can be written by everybody (mode 0666)")
	forced := darn(t, "load", "--force", pidFlag(shop), module).ok(t)
	if !strings.Contains(forced.stderr, "warning: others than you could have changed what is in this module") {
		t.Errorf("forced, it says %q", forced.stderr)
	}
}

// kept reads what was kept of a process's end.
func kept(t *testing.T, r result) (c guard.Case) {
	t.Helper()
	_, path, ok := strings.Cut(strings.TrimSpace(r.stderr), "what was seen of the end is in ")
	if !ok {
		t.Fatalf("exit status %d, stderr %q", r.code, r.stderr)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestAPatchThatEndsItsProcess: the patch reads address 0 when it is called for the
// 50th time, some second after its activation. What ended the process is known with
// its registers and stack, and the module is refused until it is forced.
func TestAPatchThatEndsItsProcess(t *testing.T) {
	module := gcc(t, "-shared", "-fPIC", writeC(t, "fix.c", `
static int calls;
int total(int n) { return ++calls < 50 ? n : *(volatile int *)0; }
`))
	shop := startShop(t, "0")
	darn(t, "load", pidFlag(shop), module).ok(t)
	r := darn(t, "activate", pidFlag(shop), "--watch=10s", module)
	r.mustRefuse(t, finding.TargetExited, fmt.Sprintf("process %d was ended by SIGSEGV ", shop.Process.Pid))
	if !strings.Contains(r.stdout, "patch 1 (out) is active") || !strings.Contains(r.stderr, "after patch 1 (out) was activated; it was at 0x") || !strings.Contains(r.stderr, " total (patch 1)+0x") {
		t.Errorf("it says %q and %q", r.stdout, r.stderr)
	}
	c := kept(t, r)
	if c.PID != shop.Process.Pid || c.Exe != shop.Path || c.Receipt == nil || c.Receipt.Operation != "activate" || len(c.Active) != 1 || c.Registers["rip"] == "" ||
		len(c.Stack) < 2 || !strings.HasPrefix(c.Stack[0], c.Registers["rip"]+" total (patch 1)+0x") || !strings.Contains(strings.Join(c.Stack[1:3], " "), " main+0x") ||
		!strings.Contains(c.Note, "it could not access address 0x0") {
		t.Errorf("kept is %+v", c)
	}
	if status := shop.Wait(); status == nil || shop.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGSEGV {
		t.Errorf("it has ended otherwise: %v", shop.ProcessState)
	}

	other := startShop(t, "0")
	darn(t, "load", pidFlag(other), module).mustRefuse(t, finding.Quarantined, "this module is in quarantine for this build of the program")
	darn(t, "inspect", pidFlag(other), module).mustRefuse(t, finding.Quarantined, "it was at 0x")
	darn(t, "load", "--force", pidFlag(other), module).ok(t)
	darn(t, "inspect", module).ok(t)
}

// TestAPatchThatEndsItsProcessAtOnce: threads call the function all the time, and the
// first call of the new code faults, some nanoseconds after the switch is set.
func TestAPatchThatEndsItsProcessAtOnce(t *testing.T) {
	module := gcc(t, "-shared", "-fPIC", writeC(t, "fix.c", "int total(int n) { return *(volatile int *)0; }\n"))
	shop := startShop(t, "2")
	darn(t, "load", pidFlag(shop), module).ok(t)
	r := darn(t, "activate", pidFlag(shop), "--watch=10s", module)
	r.mustRefuse(t, finding.TargetExited, fmt.Sprintf("process %d was ended by SIGSEGV ", shop.Process.Pid))
	c := kept(t, r)
	if c.Patch != "1" || c.Receipt == nil || c.Receipt.Operation != "activate" || len(c.Stack) < 2 || !strings.HasPrefix(c.Stack[0], c.Registers["rip"]+" total (patch 1)+0x") ||
		!strings.Contains(c.Note, "it could not access address 0x0") {
		t.Errorf("kept is %+v", c)
	}
	if status := shop.Wait(); status == nil || shop.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGSEGV {
		t.Errorf("it has ended otherwise: %v", shop.ProcessState)
	}
	other := startShop(t, "0")
	darn(t, "load", pidFlag(other), module).mustRefuse(t, finding.Quarantined, "patch 1 (out)")

	var listed casesJSON
	darn(t, "quarantine", "list", "--json").ok(t).decode(t, &listed)
	i := slices.IndexFunc(listed.Cases, func(k guard.Kept) bool { return k.Module == c.Module })
	if i < 0 || listed.Cases[i].PID != c.PID {
		t.Fatalf("the quarantine has %+v", listed.Cases)
	}
	words := fmt.Sprintf("module %.16s (%s) is refused for this build\n", c.Module, module)
	if r := darn(t, "quarantine", "list").ok(t); !strings.Contains(r.stdout, words) || !strings.Contains(r.stdout, "\n  "+listed.Cases[i].File+"\n") {
		t.Errorf("the list says %q", r.stdout)
	}
	darn(t, "quarantine", "remove", module).ok(t)
	if r := darn(t, "quarantine", "remove", module); r.code != exitRefused || !strings.Contains(r.stderr, "nothing is kept of a module "+c.Module) {
		t.Errorf("removed again: %d %s", r.code, r.stderr)
	}
	darn(t, "load", pidFlag(other), module).ok(t)
}

// TestAnotherDarnEndsTheWatch: it works at once, and what becomes of the process
// after that is not held against the patch.
func TestAnotherDarnEndsTheWatch(t *testing.T) {
	module := gcc(t, "-shared", "-fPIC", writeC(t, "fix.c", "int total(int n) { return n; }\n"))
	for name, newcomer := range map[string]func(*testing.T, *exec.Cmd){
		"a command": func(t *testing.T, shop *exec.Cmd) {
			if listed := darn(t, "list", pidFlag(shop)).ok(t); !strings.Contains(listed.stdout, "patch 1 (out) is active") {
				t.Errorf("list says %q", listed.stdout)
			}
		},
		"a debug session": func(t *testing.T, shop *exec.Cmd) {
			c := dial(t, startLine(t, command("dap"), listening))
			if err := c.Attach(t.Context(), shop.Process.Pid); err != nil {
				t.Fatal(err)
			}
			if err := c.Disconnect(t.Context(), false); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			shop := startShop(t, "0")
			darn(t, "load", pidFlag(shop), module).ok(t)
			cmd := command("activate", pidFlag(shop), "--watch=5m", module)
			var said strings.Builder
			cmd.Stderr = &said
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = cmd.Process.Kill() })
			if text, err := bufio.NewReader(out).ReadString('\n'); err != nil || !strings.HasPrefix(text, "patch 1 (out) is active") {
				t.Errorf("it says %q (%v)", text, err)
			}
			newcomer(t, shop)
			if err := shop.Process.Signal(syscall.SIGSEGV); err != nil {
				t.Fatal(err)
			}
			_ = shop.Wait()
			if err := cmd.Wait(); err != nil || !strings.Contains(said.String(), "only: another darn (process ") || strings.Contains(said.String(), "SIGSEGV") {
				t.Errorf("activate: %v, %q", err, said.String())
			}
			darn(t, "load", pidFlag(startShop(t, "0")), module).ok(t)
		})
	}
}

// TestAModuleInQuarantineIsNotActivatedEither: the same module is loaded in two processes when
// it ends one.
func TestAModuleInQuarantineIsNotActivatedEither(t *testing.T) {
	module := gcc(t, "-shared", "-fPIC", writeC(t, "fix.c", "#include <stdlib.h>\nint total(int n) { abort(); }\n"))
	first, second := startShop(t, "0"), startShop(t, "0")
	for _, shop := range []*exec.Cmd{first, second} {
		darn(t, "load", pidFlag(shop), module).ok(t)
	}
	darn(t, "activate", pidFlag(first), "--watch=10s", module).mustRefuse(t, finding.TargetExited, "was ended by SIGABRT")
	darn(t, "activate", pidFlag(second), module).mustRefuse(t, finding.Quarantined, "patch 1 (out) was activated")
	if r := darn(t, "activate", "--force", pidFlag(second), "--watch=10s", module); r.code != exitRefused || !strings.Contains(r.stderr, "was ended by SIGABRT") {
		t.Errorf("forced: %d %s", r.code, r.stderr)
	}
}

func TestAProcessThatIsAskedToEndIsNotHeldAgainstThePatch(t *testing.T) {
	module := gcc(t, "-shared", "-fPIC", writeC(t, "fix.c", "#include <signal.h>\n#include <unistd.h>\nint total(int n) { kill(getpid(), SIGTERM); return n; }\n"))
	shop := startShop(t, "0")
	darn(t, "load", pidFlag(shop), module).ok(t)
	r := darn(t, "activate", pidFlag(shop), "--watch=10s", module)
	if r.code != exitDone && !strings.Contains(r.stderr, "[target-exited]") || strings.Contains(r.stderr, "what was seen of the end") {
		t.Errorf("exit status %d, stderr %q", r.code, r.stderr)
	}
	darn(t, "load", pidFlag(startShop(t, "0")), module).ok(t)
}

// TestAPatchThatEndsAServersProcesses: each is looked on at, those too that share
// the patch of another, and none is waited for in turn.
func TestAPatchThatEndsAServersProcesses(t *testing.T) {
	exe := gcc(t, "../../testdata/targets/prefork.c")
	module := gcc(t, "-shared", "-fPIC", writeC(t, "fix.c", "static int calls;\nint answer(int n) { return ++calls < 20 ? n : *(volatile int *)0; }\n"))
	cmd := exec.Command(exe)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	startLine(t, cmd, "worker 1 says 42")
	defer func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }()
	darn(t, "load", "--children", pidFlag(cmd), module).ok(t)
	r := darn(t, "activate", "--children", "--watch=10s", pidFlag(cmd), module)
	r.mustRefuse(t, finding.TargetExited, fmt.Sprintf("process %d was ended by SIGSEGV ", cmd.Process.Pid))
	if n := strings.Count(r.stderr, " was ended by SIGSEGV "); n != 3 {
		t.Errorf("%d ends of 3 are told of: %s", n, r.stderr)
	}
}
