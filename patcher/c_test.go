package patcher_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/clink"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/internal/targettest"
	"github.com/darn-dev/darn/patcher/module"
)

// cshop builds the C program that the tests patch.
func cshop(t testing.TB, flags ...string) string {
	t.Helper()
	dir := filepath.Join(targettest.Root(t), "testdata", "targets", "cshop")
	return targettest.Build(t, filepath.Join(dir, "shop.c"), append([]string{filepath.Join(dir, "a.c"), filepath.Join(dir, "b.c")}, flags...)...)
}

// cModule compiles a module. Compile before attaching: a tracer reaps the
// compiler.
func cModule(t testing.TB, source string, flags ...string) string {
	t.Helper()
	out := cModuleOr(t, source, flags...)
	if out == "" {
		t.FailNow()
	}
	return out
}

// prints waits until the newest whole line of the program contains want.
func prints(t testing.TB, target *targettest.Target, want string) {
	t.Helper()
	targettest.Eventually(t, fmt.Sprintf("a line with %q, not\n%s", want, lastLine(target)), func() bool {
		target.MustLive()
		return strings.Contains(lastLine(target), want)
	})
}

func lastLine(target *targettest.Target) string {
	lines := strings.Split(target.Output(), "\n")
	if len(lines) < 2 {
		return ""
	}
	return lines[len(lines)-2]
}

// everyBinding uses all that a module can be bound to: variables that are global
// (in the program and in a library), static, hidden, and thread-local, functions
// that are static, versioned and indirect, and what it has itself.
const everyBinding = `
#include <stdio.h>
#include <string.h>
extern int rate, sold, hidden_factor;
extern __thread int visits;
int price(int), discount(int), hidden_times(int), total(int);
static int calls;
int added = 5, *where = &added;
int (*table[])(int) = {price, discount, hidden_times, total};
int total(int n)
{
	char text[64];
	snprintf(text, sizeof text, "%d %s", n, strrchr("a/b", '/'));
	calls++;
	sold++;
	if (n == 0)
		return 0;
	return 1000 + strlen(text) + *where * 10 + table[1](table[0](1)) + rate + hidden_times(1) - hidden_factor + table[3](0) + !stdout;
}
int visit(void) { return visits += 2; }
`

// TestCPrograms patches programs that were compiled in every way that is
// supported, while threads call what is patched.
func TestCPrograms(t *testing.T) {
	for _, test := range []struct{ name, flags, module string }{
		{"without optimisation", "-O0", ""},
		{"position independent", "-O2 -fPIE -pie", ""},
		{"at a fixed address", "-O2 -no-pie", ""},
		{"O3", "-O3", ""},
		{"control flow protection", "-O2 -fcf-protection", "-fcf-protection"},
		{"static", "-O2 -static", "-ftls-model=initial-exec"},
		{"static and position independent", "-O2 -static-pie", "-ftls-model=initial-exec"},
		{"initial exec", "-O2", "-ftls-model=initial-exec"},
		{"link-time optimisation", "-O1 -flto", ""},
		{"without knowledge of what functions do with registers", "-O2 -fno-ipa-ra -fomit-frame-pointer", "-O0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			exe := cshop(t, strings.Fields(test.flags)...)
			m := cModule(t, everyBinding, strings.Fields(test.module)...)
			target := targettest.Start(t, targettest.Command{Path: exe})
			prints(t, target, " total=20 ")
			e, detach := attach(t, target)
			in, err := e.Inspect(t.Context(), m)
			if err != nil || !in.OK || len(in.Module.Functions) != 2 {
				t.Fatalf("inspect: %v, %+v", err, in)
			}
			p := load(t, e, m)
			prints(t, target, " total=20 ")
			activate(t, e, p)
			prints(t, target, " total=1069 ")
			deactivate(t, e, p)
			prints(t, target, " total=20 ")
			if r := activate(t, e, p); r.Halts != 0 {
				t.Errorf("the second activation made %d halts", r.Halts)
			}
			prints(t, target, " total=1069 ")
			deactivate(t, e, p)
			targettest.Eventually(t, "an unload", func() bool {
				_, err = e.Unload(t.Context(), p.ID)
				return err == nil
			})
			prints(t, target, " total=20 ")
			prints(t, target, " wrong=0")
			detach()
			target.MustLive()
		})
	}
}

// Callers keep values in registers that the old code of greet leaves alone; the
// new code uses all that the ABI lets it use.
func TestCallersKeepTheirRegisters(t *testing.T) {
	exe := cshop(t, "-O2")
	m := cModule(t, `
__attribute__((noinline)) const char *greet(void)
{
	__asm__ volatile("xor %%ecx,%%ecx; xor %%edx,%%edx; xor %%esi,%%esi; xor %%edi,%%edi; xor %%r8d,%%r8d; xor %%r9d,%%r9d; xor %%r10d,%%r10d; xor %%r11d,%%r11d;"
	                 "pxor %%xmm0,%%xmm0; pxor %%xmm7,%%xmm7; pxor %%xmm15,%%xmm15" ::: "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "xmm0", "xmm7", "xmm15");
	return "good day";
}`)
	target := targettest.Start(t, targettest.Command{Path: exe})
	prints(t, target, "greet=hello/hello")
	e, detach := attach(t, target)
	p := load(t, e, m)
	activate(t, e, p)
	prints(t, target, " total=20 greet=good day/good day ")
	prints(t, target, " wrong=0")
	deactivate(t, e, p)
	prints(t, target, "greet=hello/hello")
	detach()
}

// One name that several files have is taken from the file of that name.
func TestStaticFunctionsOfOneNameAreToldApartByTheirFile(t *testing.T) {
	exe := cshop(t, "-O2")
	source := "static __attribute__((used, noinline)) int named(int n) { return n + 40; }\nint unused(void) { return named(1); }\n"
	path := filepath.Join(t.TempDir(), "b.c")
	if err := os.WriteFile(path, []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	m := path + ".so"
	if out, err := exec.Command("gcc", "-shared", "-fPIC", "-O2", path, "-o", m).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	target := targettest.Start(t, targettest.Command{Path: exe})
	prints(t, target, " named=4/303 ")
	e, detach := attach(t, target)
	p := load(t, e, m)
	activate(t, e, p)
	prints(t, target, " named=4/123 ")
	detach()
}

// What a stack is walked for: who sleeps in the old code is counted, and holds
// an activation up that wants nobody there; who sleeps in the new code holds it.
func TestThreadsInCCodeAreFound(t *testing.T) {
	exe := cshop(t, "-O2")
	m := cModule(t, "#include <unistd.h>\nint slow(int ms) { usleep(ms * 5000); return 2; }\n")
	target := targettest.Start(t, targettest.Command{Path: exe, Args: []string{"1", "sleeper"}})
	prints(t, target, " slow=1 ")
	e, detach := attach(t, target)
	p := load(t, e, m)
	sawOld := false
	targettest.Eventually(t, "a frame in the old code", func() bool {
		activate(t, e, p)
		l, err := e.List(t.Context())
		if sawOld = frames(t, l, err) == 1; !sawOld {
			deactivate(t, e, p)
			targettest.Eventually(t, "an unload", func() bool {
				_, err = e.Unload(t.Context(), p.ID)
				return err == nil
			})
			p = load(t, e, m)
		}
		return sawOld
	})
	prints(t, target, " slow=2 ")
	targettest.Eventually(t, "no frame in the old code", func() bool {
		l, err := e.List(t.Context())
		return err == nil && l.Patches[0].Functions[0].FramesInOldCode == 0
	})
	deactivate(t, e, p)
	_, err := e.Unload(t.Context(), p.ID)
	if finding.CodeOf(err) != finding.InUse || !strings.Contains(err.Error(), "thread ") {
		t.Errorf("unload says %v", err)
	}
	targettest.Eventually(t, "an unload", func() bool {
		_, err = e.Unload(t.Context(), p.ID)
		return err == nil
	})
	p = load(t, e, m)
	// Only for an instant now and then nobody sleeps there.
	_, _, err = e.Activate(t.Context(), p.ID, patcher.ActivateOptions{Consistency: patcher.Quiescent, Timeout: time.Millisecond})
	if err != nil && (finding.CodeOf(err) != finding.QuiescenceTimeout || !strings.Contains(err.Error(), "will return to slow")) {
		t.Errorf("a quiescent activation says %v", err)
	}
	detach()
}

// TestCRefusals shows what a module for a C program is refused for, and that the
// process is not changed by it.
func TestCRefusals(t *testing.T) {
	exe := cshop(t, "-O2")
	stripped := filepath.Join(t.TempDir(), "stripped")
	if out, err := exec.Command("objcopy", "--strip-all", exe, stripped).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	lib := cModule(t, "int other(void) { return 1; }")
	const total = "int total(int n) { return n; }\n"
	tests := []struct {
		name, exe, source, flags string
		code                     finding.Code
		words                    string
	}{
		{"a missing function", exe, total + "int gone(int); int visit(void) { return gone(1); }", "", finding.SymbolUnresolved, "gone: neither the program nor its libraries have it"},
		{"no function of the program's", exe, "int nothing(void) { return 1; }", "", finding.SymbolUnresolved, "none of the module's functions has the name"},
		{"a name that is there twice", exe, "int named(int n) { return n; }", "", finding.SymbolAmbiguous, "several static functions or variables of this name: a.c at"},
		{"a variable that is there twice", exe, "extern int named_state; int total(int n) { return named_state; }", "", finding.SymbolAmbiguous, "named_state"},
		{"a variable of another size", exe, "long rate[4]; int total(int n) { return rate[n]; }", "", finding.GlobalChanged, "the variable has 32 bytes in the module, and 4 in the program"},
		{"a variable declared with another type", exe, "extern long rate; int total(int n) { return rate; }", "", finding.GlobalChanged, "the module declares the variable as long int of 8 bytes, and in the program it has 4"},
		{"a variable that is called", exe, "int rate(void); int total(int n) { return rate(); }", "", finding.SymbolUnresolved, "the module calls it, and in the program it is a variable"},
		{"a thread-local variable that is none", exe, "extern __thread int rate; int total(int n) { return rate; }", "", finding.SymbolUnresolved, "takes it for a thread-local variable"},
		{"thread-local variables of its own", exe, "__thread int mine; int total(int n) { return mine++; }", "", finding.UnsupportedBuild, "thread-local variables of its own"},
		{"too many constructors", exe, total + constructors(17), "", finding.InitChanged, "the module has 17 constructors, more than 16"},
		{"an executable stack", exe, total, "-z execstack", finding.UnsupportedBuild, "the module wants an executable stack"},
		{"writable code", exe, total, "-nostdlib -Wl,-N", finding.UnsupportedBuild, "writable and executable"},
		{"text relocations", exe, "extern int rate; int total(int n) { return rate; } __asm__(\".text\\n.quad rate\\n\");", "-Wl,-z,notext", finding.UnsupportedBuild, "text relocations"},
		{"a program", exe, total + "int main(void) { return 0; }", "-pie", finding.UnsupportedBuild, "the file is a program"},
		{"an indirect function of its own", exe, total + "int f(void) { return 1; } static void *choose(void) { return f; } int g(void) __attribute__((ifunc(\"choose\")));", "", finding.UnsupportedBuild, "the indirect function \"g\""},
		{"a library that is not loaded", exe, total + "int other(void); int visit(void) { return other(); }", lib + " -Wl,-soname,x.so", finding.SymbolUnresolved, "which the program has not loaded"},
		{"another version of the C library", exe, total + "int printf(const char *, ...); int visit(void) { return printf(\"\"); }",
			"-fno-builtin -nostdlib " + otherLibrary(t), finding.SymbolUnresolved, "printf: the module needs its version GLIBC_2.99, and libc.so.6 has GLIBC_2.2.5"},
		{"an entry that is too short", exe, "int tiny(void) { return 8; }", "", finding.EntryTooShort, "tiny: the function at"},
		{"a branch into the entry", exe, "long loops(long n) { return 1; }", "", finding.EntryBranchTarget, ""},
		{"a stripped program", stripped, total, "", finding.SymbolUnresolved, "of a stripped program only exported functions are known"},
		{"a variable that is called through a pointer to it", exe, "int rate(void); int total(int n) { return rate(); }", "-fno-plt", finding.SymbolUnresolved, "rate: the module takes it for a function, and in the program it is a variable"},
		{"a function that is a variable", exe, "extern int price; int total(int n) { return price; }", "", finding.SymbolUnresolved, "price: the module takes it for a variable, and in the program it is a function"},
		{"many arguments on the stack", exe, "struct s { long x[40]; }; int visit(struct s v) { return v.x[3]; }", "", finding.SignatureChanged, "visit: its callers may rely on registers"},
		{"C++ without its unwinder", exe, total + "int f(void) __asm__(\"_Z1fv\"); int f(void) { return 1; }", "", finding.UnsupportedTarget, "the program's unwinder can't be told of it"},
		{"the dynamic linker", exe, "void *__tls_get_addr(void *x) { return x; }", "", finding.UnsupportedTarget, "can't be replaced"},
	}
	modules := make([]string, len(tests))
	for i, test := range tests {
		modules[i] = cModuleOr(t, test.source, strings.Fields(test.flags)...)
	}
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if modules[i] == "" {
				t.Skip("the tool chain does not make it")
			}
			target := targettest.Start(t, targettest.Command{Path: test.exe, Args: []string{"0"}})
			prints(t, target, " total=20 ")
			e, detach := attach(t, target)
			defer detach()
			before := snapshot(t, target.Pid())
			_, _, err := e.Load(t.Context(), modules[i])
			if finding.CodeOf(err) != test.code || !strings.Contains(err.Error(), test.words) || finding.As(err).Findings[0].Advice == "" {
				t.Errorf("load says %v", err)
			}
			if d := before.diff(snapshot(t, target.Pid())); d != "" {
				t.Errorf("the process is not as it was:\n%s", d)
			}
		})
	}
}

// constructors is the source of n constructors.
func constructors(n int) string {
	var s strings.Builder
	s.WriteString("int x;")
	for i := range n {
		fmt.Fprintf(&s, " __attribute__((constructor)) void begin%d(void) { x++; }", i)
	}
	return s.String()
}

// otherLibrary makes a C library of another version to link with.
func otherLibrary(t testing.TB) string {
	t.Helper()
	script := filepath.Join(t.TempDir(), "versions")
	if err := os.WriteFile(script, []byte("GLIBC_2.99 { global: printf; };\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return cModule(t, "int printf(const char *f, ...) { return 0; }", "-w", "-fno-builtin", "-nostdlib", "-Wl,-soname,libc.so.6", "-Wl,--version-script="+script)
}

// cModuleOr is cModule, but returns "" if the compiler or linker refuses.
func cModuleOr(t testing.TB, source string, flags ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fix.c")
	if err := os.WriteFile(path, []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	out := strings.TrimSuffix(path, ".c") + ".so"
	kind := "-shared"
	if slices.Contains(flags, "-pie") {
		kind = "-pie"
	}
	args := append([]string{kind, "-fPIC", "-g", "-O2", path, "-o", out}, flags...)
	if output, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
		t.Logf("gcc %v: %v\n%s", args, err, output)
		return ""
	}
	return out
}

// TestCPlusPlus patches methods, virtual functions and templates; exceptions are
// thrown through and from the new code, by two threads from the first call on.
func TestCPlusPlus(t *testing.T) {
	dir := filepath.Join(targettest.Root(t), "testdata", "targets", "cshop")
	exe, m := filepath.Join(t.TempDir(), "cart"), filepath.Join(t.TempDir(), "fix.so")
	source := filepath.Join(t.TempDir(), "fix.cc")
	if err := os.WriteFile(source, []byte(`
#include <iostream>
#include <string>
#include "cart.h"
namespace shop {
int Square::area() const { return side * 10; }
int Cart::total(int n) const { return n * rate + 1000; }
static NOINLINE int inner(int n) { if (n > 1) throw Refused("new"); return n; }
int check(int n)
{
	std::string s("abc");
	try {
		if (n == 200)
			throw 5;
	} catch (int) {
		return inner(n + s.size());
	}
	return inner(n);
}
int passes(int (*f)(int), int n) { std::string held("held2"); return f(n) + (int)held.size(); }
template <typename T> T twice(T x) { return x * 2 + 1; }
template int twice<int>(int);
}
`), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"-g", "-O2", "-pthread", "-o", exe, filepath.Join(dir, "cart.cc")},
		{"-g", "-O2", "-shared", "-fPIC", "-I", dir, "-o", m, source},
	} {
		if out, err := exec.Command("g++", args...).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	target := targettest.Start(t, targettest.Command{Path: exe})
	prints(t, target, " total=6 area=16 twice=42 caught=old")
	e, detach := attach(t, target)
	p := load(t, e, m)
	for range 3 {
		activate(t, e, p)
		prints(t, target, " total=1006 area=40 twice=43 caught=new")
		deactivate(t, e, p)
		prints(t, target, " total=6 area=16 twice=42 caught=old")
	}
	// The unwinder knows the module now, and can't be made to forget it.
	if _, err := e.Unload(t.Context(), p.ID); finding.CodeOf(err) != finding.InUse {
		t.Errorf("unload says %v", err)
	}
	prints(t, target, " total=6 area=16 twice=42 caught=old")
	detach()
	target.MustLive()
}

// TestCTorture switches a patch on and off as fast as can be while threads call
// it; a long -torture makes it long.
func TestCTorture(t *testing.T) {
	toggles := 8000
	if *tortureTime > time.Minute {
		toggles = 1000000
	}
	exe := cshop(t, "-O2")
	m := cModule(t, everyBinding)
	target := targettest.Start(t, targettest.Command{Path: exe, Args: []string{"4"}})
	prints(t, target, " total=20 ")
	e, detach := attach(t, target)
	p := load(t, e, m)
	start := time.Now()
	for range toggles / 2 {
		activate(t, e, p)
		deactivate(t, e, p)
	}
	t.Logf("%d toggles in %v", toggles, time.Since(start).Round(time.Millisecond))
	prints(t, target, " total=20 ")
	prints(t, target, " wrong=0")
	detach()
	target.MustLive()
}

// A handler of signals is known to the kernel alone: a module that may have set
// one is never unloaded.
func TestAModuleThatTheKernelMayKnowStaysLoaded(t *testing.T) {
	exe := cshop(t, "-O2")
	m := cModule(t, `
#include <signal.h>
static void handler(int s) { (void)s; }
int visit(void) { signal(SIGUSR2, handler); return 7; }
`)
	target := targettest.Start(t, targettest.Command{Path: exe})
	prints(t, target, " total=20 ")
	e, detach := attach(t, target)
	p := load(t, e, m)
	activate(t, e, p)
	targettest.Eventually(t, "a call of visit", func() bool { return catches(t, target.Pid(), syscall.SIGUSR2) })
	deactivate(t, e, p)
	_, err := e.Unload(t.Context(), p.ID)
	if finding.CodeOf(err) != finding.InUse || !strings.Contains(err.Error(), "the kernel, perhaps: the module calls signal") {
		t.Errorf("unload says %v", err)
	}
	detach()
	if err := syscall.Kill(target.Pid(), syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	prints(t, target, " wrong=0")
	target.MustLive()
}

// catches tells whether a process has a handler for a signal.
func catches(t *testing.T, pid int, s syscall.Signal) bool {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "SigCgt:\t")
	mask, _, _ := strings.Cut(rest, "\n")
	caught, err := strconv.ParseUint(mask, 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return caught>>(s-1)&1 != 0
}

// Constructors run once, in the first call of any thread, while others wait for
// them; but what they call themselves goes on.
func TestConstructorsRunInTheFirstCall(t *testing.T) {
	exe := cshop(t, "-O2")
	m := cModule(t, `
static int begun, x;
int total(int);
void usleep(unsigned);
__attribute__((constructor)) static void begin(void) { usleep(100000); begun++; x = total(2); }
int total(int n) { return 1000 * begun + n + x; }
int visit(void) { return begun; }
`)
	target := targettest.Start(t, targettest.Command{Path: exe, Args: []string{"4"}})
	prints(t, target, " total=20 ")
	e, detach := attach(t, target)
	p := load(t, e, m)
	for range 2 {
		activate(t, e, p)
		prints(t, target, " total=2006 ")
		prints(t, target, " wrong=0")
		deactivate(t, e, p)
		prints(t, target, " total=20 ")
	}
	detach()
	target.MustLive()
}

// Where constructors do not end, as in a child that was forked while another
// thread ran them, calls wait for a while only, and but once.
func TestAWaitForConstructorsEnds(t *testing.T) {
	exe := cshop(t, "-O2")
	m := cModule(t, `
void usleep(unsigned);
static int begun;
__attribute__((constructor)) static void begin(void) { begun = 1; for (;;) usleep(1000); }
int visit(void) { return begun; }
`)
	was := clink.ConstructorPauses
	clink.ConstructorPauses = 1 << 22
	defer func() { clink.ConstructorPauses = was }()
	target := targettest.Start(t, targettest.Command{Path: exe, Args: []string{"2"}})
	prints(t, target, " total=20 ")
	e, detach := attach(t, target)
	p := load(t, e, m)
	activate(t, e, p)
	answers := func() (n int) {
		_, rest, _ := strings.Cut(lastLine(target), "answers=")
		_, _ = fmt.Sscan(rest, &n)
		return n
	}
	// Each of two threads comes to the constructor with its next call.
	before := answers()
	targettest.Eventually(t, "many calls", func() bool { return answers() > before+1000000 })
	deactivate(t, e, p)
	detach()
	target.MustLive()
}

// What other tool chains make of the same source is loaded too.
func TestModulesOfOtherFlags(t *testing.T) {
	exe := cshop(t, "-O2")
	for _, test := range []struct{ name, flags, section, relocation string }{
		{"packed relocations", "-Wl,-z,pack-relative-relocs", ".relr.dyn", ""},
		{"descriptors of thread-local variables", "-mtls-dialect=gnu2", "", "R_X86_64_TLSDESC"},
		{"thread-local variables by calls", "-ftls-model=global-dynamic", "", "R_X86_64_DTPMOD64"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := cModule(t, "static int one = 1; static int *packed[3] = {&one, 0, &one};\n"+everyBinding+
				"const char *greet(void) { return packed[0] == packed[2] && *packed[2] == 1 ? \"packed\" : \"wrong\"; }\n", strings.Fields(test.flags)...)
			out, err := exec.Command("readelf", "-SrW", m).CombinedOutput()
			if err != nil || !strings.Contains(string(out), test.section) || !strings.Contains(string(out), test.relocation) {
				t.Skipf("the tool chain makes something else of %s: %v", test.flags, err)
			}
			target := targettest.Start(t, targettest.Command{Path: exe})
			prints(t, target, " total=20 ")
			e, detach := attach(t, target)
			p := load(t, e, m)
			activate(t, e, p)
			prints(t, target, " total=1069 greet=packed/packed ")
			prints(t, target, " wrong=0")
			deactivate(t, e, p)
			prints(t, target, " total=20 ")
			detach()
			target.MustLive()
		})
	}
}

// A program that has restricted its system calls might be ended by ours.
func TestASandboxedProgramIsLeftAlone(t *testing.T) {
	sandbox := filepath.Join(t.TempDir(), "sandbox.c")
	if err := os.WriteFile(sandbox, []byte(`
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
__attribute__((constructor)) static void begin(void)
{
	struct sock_filter all[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
	struct sock_fprog p = {1, all};
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p);
}
`), 0o644); err != nil {
		t.Fatal(err)
	}
	exe := cshop(t, "-O2", sandbox)
	m := cModule(t, "int total(int n) { return n; }")
	target := targettest.Start(t, targettest.Command{Path: exe, Args: []string{"0"}})
	prints(t, target, " total=20 ")
	before := snapshot(t, target.Pid())
	coming, err := module.Open(m)
	if err != nil {
		t.Fatal(err)
	}
	p, e, err := patcher.Attach(target.Pid(), patcher.ForLoading(coming))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	defer e.Close()
	if d := before.diff(snapshot(t, target.Pid())); d != "" {
		t.Errorf("attached to, the process is not as it was:\n%s", d)
	}
	_, _, err = e.Load(t.Context(), m)
	if finding.CodeOf(err) != finding.UnsupportedTarget || !strings.Contains(err.Error(), "seccomp") {
		t.Errorf("load says %v", err)
	}
	if d := before.diff(snapshot(t, target.Pid())); d != "" {
		t.Errorf("the process is not as it was:\n%s", d)
	}
}

// A library whose file was replaced is read as the program has it, or not at all.
func TestALibraryThatWasReplacedIsNotTakenForTheLoadedOne(t *testing.T) {
	dir := t.TempDir()
	library := func(source string) string {
		out := filepath.Join(dir, "new.so")
		if err := os.Rename(cModule(t, source, "-Wl,-soname,libprice.so"), out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	loaded := filepath.Join(dir, "libprice.so")
	if err := os.Rename(library("int tax = 1; int added_tax(int n) { return n + tax; } __attribute__((constructor)) static void begin(void) {}"), loaded); err != nil {
		t.Fatal(err)
	}
	exe := cshop(t, "-O2", "-Wl,--no-as-needed", loaded, "-Wl,-rpath,"+dir)
	m := cModule(t, "int added_tax(int); int total(int n) { return added_tax(20) + 1000; }")
	target := targettest.Start(t, targettest.Command{Path: exe})
	prints(t, target, " total=20 ")
	// In the new file everything is elsewhere.
	if err := os.Rename(library("int pad[999] = {1}; int other(int n) { return pad[n]; } int tax = 1; int added_tax(int n) { return n - tax; }"), loaded); err != nil {
		t.Fatal(err)
	}
	e, detach := attach(t, target)
	defer detach()
	p, _, err := e.Load(t.Context(), m)
	if finding.CodeOf(err) == finding.UnsupportedTarget && strings.Contains(err.Error(), "was replaced or deleted since the program loaded it") {
		return // who may not ask the kernel for the old one
	}
	if err != nil {
		t.Fatal(err)
	}
	activate(t, e, p)
	prints(t, target, " total=1021 ")
	deactivate(t, e, p)
	prints(t, target, " total=20 ")
}
