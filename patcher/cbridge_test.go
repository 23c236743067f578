package patcher_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/internal/targettest"
)

// cProgram builds a program in C from its source, each of whose rounds prints a
// line.
func cProgram(t testing.TB, source string, flags ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program.c")
	if err := os.WriteFile(path, []byte(cHead+source), 0o644); err != nil {
		t.Fatal(err)
	}
	return targettest.Build(t, path, flags...)
}

const cHead = `
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>
#define NOINLINE __attribute__((noinline))
#define ROUNDS setvbuf(stdout, 0, _IOLBF, 0); for (;; usleep(2000))
`

// cPlusPlus compiles sources in C++ into one file.
func cPlusPlus(t testing.TB, out string, sources []string, flags ...string) string {
	t.Helper()
	dir := t.TempDir()
	args := append([]string{"-g", "-O2", "-o", filepath.Join(dir, out)}, flags...)
	for i, s := range sources {
		path := filepath.Join(dir, string(rune('a'+i))+".cc")
		if err := os.WriteFile(path, []byte(s), 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, path)
	}
	if output, err := exec.Command("g++", args...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return filepath.Join(dir, out)
}

// Callers rely on what the compiler saw of the old code: that it needs no
// aligned stack, which registers it leaves alone, and where its arguments are.
func TestBridgesGiveNewCodeWhatTheABIPromises(t *testing.T) {
	const sums = `
int rate = 3;
NOINLINE int total(int n) { return n * rate; }
NOINLINE int caller(int n) { return total(n) + total(n + 1); }
int main(void) { ROUNDS printf("sum=%d\n", caller(1)); }`
	const uses = `
extern int rate;
int total(int n) { int d; __asm__ volatile("mov $123456, %%edx" ::: "edx"); d = n * rate; return d + 1; }`
	for _, test := range []struct{ name, program, module, flags, before, after string }{
		{"an aligned stack", `
int rate = 3;
NOINLINE static int total(int n) { return n * rate; }
NOINLINE int caller(int n) { return total(n) + total(n + 1); }
NOINLINE int other(int n) { int a = total(n); rate = 3; return a + 1; }
int main(void) { ROUNDS printf("%d %d\n", caller(1), other(2)); }`, `
#include <stdio.h>
extern int rate;
NOINLINE static int use(volatile float *p) { return (int)p[0]; }
int total(int n)
{
	float v[4] __attribute__((aligned(16))) = {n, n, n, n};
	char text[64];
	for (int i = 0; i < 4; i++)
		v[i] *= rate;
	snprintf(text, 64, "%f %f", (double)v[0], (double)v[1]);
	return 1000 + use(v);
}`, "-DNOINLINE=__attribute__((noinline))", "9 7\n", "2009 1007\n"},
		{"registers, where the function was inlined too", sums, uses + "int twice(int n) { return total(n) * 2; }", "", "sum=9\n", "sum=11\n"},
		{"registers, without debugging information in the module", sums, uses, "-g0", "sum=9\n", "sum=11\n"},
		{"padding of arguments", `
struct s { long a, b, c; };
__attribute__((noipa)) long double sum(struct s v, long double x) { return x + v.a + v.b; }
int main(void) { struct s v = {1, 2, 3}; ROUNDS printf("%.1Lf\n", sum(v, 2.5L)); }`, `
struct s { long a, b, c; };
long double sum(struct s v, long double x) { return 1000 + x + v.a + v.b; }`, "", "5.5\n", "1005.5\n"},
		{"a result in two registers", `
struct s { long a; double b; };
__attribute__((noipa)) struct s pair(long n) { return (struct s){n, 1}; }
int main(void) { ROUNDS { struct s v = pair(3); printf("%ld %.1f\n", v.a, v.b); } }`, `
struct s { long a; double b; };
struct s pair(long n) { return (struct s){n + 1, 2}; }`, "", "3 1.0\n", "4 2.0\n"},
		{"the last words of a stack", `
void swap(void **from, void **to);
__asm__(".text\n.globl swap\n.type swap,@function\nswap:\n push %rbp\n push %rbx\n push %r12\n push %r13\n push %r14\n push %r15\n"
	" mov %rsp,(%rdi)\n mov (%rsi),%rsp\n pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbx\n pop %rbp\n ret\n.size swap,.-swap\n");
void *routine, *host;
int g;
NOINLINE int leaf(int x) { g = x; return g * 7; }
void run(void) { for (;;) { leaf(1); swap(&routine, &host); } }
int main(void)
{
	char *stack = mmap(0, 1 << 17, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	mprotect(stack, 1 << 16, PROT_READ | PROT_WRITE);
	void **top = (void **)(stack + (1 << 16));
	*--top = 0, *--top = 0, *--top = (void *)run;
	routine = top - 6;
	ROUNDS { swap(&host, &routine); printf("g=%d\n", g); }
}`, "extern int g; int leaf(int x) { g = 1000 * x; return g * 7; }", "", "g=1\n", "g=1000\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			exe := cProgram(t, test.program, "-O2")
			m := cModule(t, test.module, strings.Fields(test.flags)...)
			target := targettest.Start(t, targettest.Command{Path: exe})
			prints(t, target, strings.TrimSpace(test.before))
			e, detach := attach(t, target)
			p := load(t, e, m)
			activate(t, e, p)
			prints(t, target, strings.TrimSpace(test.after))
			deactivate(t, e, p)
			prints(t, target, strings.TrimSpace(test.before))
			detach()
			target.MustLive()
		})
	}
}

// A bridge to a function of which not all is known would lose what its callers
// keep in registers, or read memory that is not there.
func TestBridgesThatCanNotBeMadeAreRefused(t *testing.T) {
	exe := cProgram(t, `
#include <stdarg.h>
int rate = 3;
NOINLINE int total(int n) { return n * rate; }
NOINLINE int first(int n, ...) { va_list l; va_start(l, n); n += va_arg(l, int); va_end(l); return n; }
int main(void) { ROUNDS printf("sum=%d\n", total(1) + first(1, 2)); }`, "-O2")
	stripped := filepath.Join(t.TempDir(), "stripped")
	if out, err := exec.Command("objcopy", "--strip-debug", exe, stripped).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, test := range []struct{ name, exe, module, flags, words string }{
		{"a signature that is not known", stripped, "int total(int n) { return n; }", "-g0", "total: its callers may rely on registers that the old code leaves alone, and the new code can't be made to keep them: what it takes and returns is not known"},
		{"any number of arguments", exe, "int first(int n, ...) { return n; }", "", "it takes any number of arguments"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := cModule(t, test.module, strings.Fields(test.flags)...)
			target := targettest.Start(t, targettest.Command{Path: test.exe})
			prints(t, target, "sum=6")
			e, detach := attach(t, target)
			defer detach()
			_, _, err := e.Load(t.Context(), m)
			if finding.CodeOf(err) != finding.SignatureChanged || !strings.Contains(err.Error(), test.words) {
				t.Errorf("load says %v", err)
			}
			target.MustLive()
		})
	}
}

// Exceptions pass bridges, and modules in C, where the program handles them.
func TestExceptionsPassBridgesAndModulesInC(t *testing.T) {
	exe := cPlusPlus(t, "program", []string{`
#include <cstdio>
#include <stdexcept>
#include <unistd.h>
int price(int);
extern "C" int compute(int);
extern "C" int risky(int n) { if (n < 0) throw std::runtime_error("negative"); return n; }
int main()
{
	setvbuf(stdout, 0, _IOLBF, 0);
	for (;; usleep(2000)) {
		const char *a = "no", *b = "no";
		int p = 0, c = 0;
		try { p = price(1); } catch (int) { a = "yes"; }
		try { c = compute(1); compute(-1); } catch (std::exception &) { b = "yes"; }
		printf("price=%d/%s compute=%d/%s\n", p, a, c, b);
	}
}`, `
extern "C" int risky(int);
int rate = 2;
int price(int n) { return n * rate * 7; }
extern "C" int compute(int n) { return risky(n) + 1; }`})
	throws := cPlusPlus(t, "throws.so", []string{"int price(int n) { if (n > 0) throw 1; return n; }"}, "-shared", "-fPIC")
	passes := cModule(t, "int risky(int); int compute(int n) { return risky(n) + 100; }")
	target := targettest.Start(t, targettest.Command{Path: exe})
	prints(t, target, "price=14/no compute=2/yes")
	e, detach := attach(t, target)
	p := load(t, e, throws)
	activate(t, e, p)
	prints(t, target, "price=0/yes compute=2/yes")
	activate(t, e, load(t, e, passes))
	prints(t, target, "price=0/yes compute=101/yes")
	deactivate(t, e, p)
	prints(t, target, "price=14/no compute=101/yes")
	detach()
	target.MustLive()
}

// The thread that makes the first call needs a lock, to tell the unwinder of the
// module, that a thread holds which waits for the first call to be over.
func TestWaitingForTheFirstCallEnds(t *testing.T) {
	exe := cProgram(t, `
#include <pthread.h>
pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
volatile int telling, held, ended;
void __register_frame(void *p) { telling = 1; pthread_mutex_lock(&lock); pthread_mutex_unlock(&lock); }
__attribute__((noipa)) int value(void) { return getpid() > 0; }
void *holder(void *p)
{
	pthread_mutex_lock(&lock);
	held = 1;
	while (!telling)
		usleep(1000);
	ended = value();
	pthread_mutex_unlock(&lock);
	return 0;
}
int main(void)
{
	pthread_t t;
	pthread_create(&t, 0, holder, 0);
	while (!held)
		usleep(1000);
	ROUNDS { int v = value(); printf("value=%d ended=%d\n", v, ended); }
}`, "-O2")
	m := cModule(t, `int f(void) __asm__("_Z1fv"); int f(void) { return 1; } int value(void) { return 2; }`)
	target := targettest.Start(t, targettest.Command{Path: exe})
	prints(t, target, "value=1 ended=0")
	e, detach := attach(t, target)
	activate(t, e, load(t, e, m))
	prints(t, target, "value=2 ended=2")
	detach()
	target.MustLive()
}

// A helper of the module may have the name of a function of a library's, which is
// then not replaced along with the program's.
func TestHelpersWithTheNamesOfLibraryFunctions(t *testing.T) {
	exe := cshop(t, "-O2")
	m := cModule(t, `void error(int a, int b, const char *f, ...) { __asm__ volatile(""); } int total(int n) { error(0, 0, ""); return n ? 4444 : 0; }`)
	target := targettest.Start(t, targettest.Command{Path: exe})
	prints(t, target, " total=20 ")
	e, detach := attach(t, target)
	p, _, err := e.Load(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	saysFinding(t, p.Findings, finding.LibraryFunction, "the module has it for itself")
	activate(t, e, p)
	prints(t, target, " total=4444 ")
	detach()
	target.MustLive()
}

// The memory for patches is near the program's or near a library's functions.
func TestFunctionsThatAreFarApartAreRefused(t *testing.T) {
	exe := cshop(t, "-O2")
	library := cModule(t, "int rand_r(unsigned *n) { return 0; }", "-fno-builtin")
	m := cModule(t, "int total(int n) { return n; }")
	target := targettest.Start(t, targettest.Command{Path: exe})
	prints(t, target, " total=20 ")
	e, detach := attach(t, target)
	defer detach()
	load(t, e, library)
	_, _, err := e.Load(t.Context(), m)
	if finding.CodeOf(err) != finding.OutOfRange || !strings.Contains(err.Error(), "total: the function, in "+filepath.Base(exe)+", is more than 2 GiB away from the memory for patches") {
		t.Errorf("load says %v", err)
	}
	target.MustLive()
}

// Names do not tell which function is meant where code has two of them, or two
// libraries have one.
func TestNamesThatStandForTwoFunctions(t *testing.T) {
	folded := cProgram(t, `
int x;
NOINLINE static int first(int n) { x--; return n * 7 + x; }
NOINLINE static int second(int n) { x--; return n * 7 + x; }
int main(int c, char **v) { ROUNDS { x = 1; printf("first=%d second=%d\n", first(c), second(c + 1)); } }`, "-O2")
	plugin := func(n string) string {
		return cModule(t, "int handle(int n) { __asm__ volatile(\"\"); return n + "+n+"; }")
	}
	plugins := cProgram(t, `
#include <dlfcn.h>
int main(int c, char **v)
{
	int (*f)(int) = dlsym(dlopen(v[1], RTLD_NOW), "handle"), (*g)(int) = dlsym(dlopen(v[2], RTLD_NOW), "handle");
	ROUNDS printf("first=%d second=%d\n", f(1), g(1));
}`)
	for _, test := range []struct {
		name, exe string
		args      []string
		module    string
		before    string
		refusal   string // or else
		warning   string
		after     string
	}{
		{"identical code", folded, nil, "int first(int n) { return 7777; }", "first=6 second=14",
			"", "first: the program has one code for it and for second: calls of those run the new code too", "first=7777 second=7777"},
		{"identical code, and the module has both", folded, nil, "int first(int n) { return 1; } int second(int n) { return 2; }", "first=6 second=14",
			"the program has one code for it and for", "", ""},
		{"plugins", plugins, []string{plugin("10"), plugin("20")}, "int handle(int n) { return 1020; }", "first=11 second=21",
			"handle: two libraries have a function of this name", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := cModule(t, test.module)
			target := targettest.Start(t, targettest.Command{Path: test.exe, Args: test.args})
			prints(t, target, test.before)
			e, detach := attach(t, target)
			defer detach()
			p, _, err := e.Load(t.Context(), m)
			if test.refusal != "" {
				if finding.CodeOf(err) != finding.SymbolAmbiguous || !strings.Contains(err.Error(), test.refusal) {
					t.Errorf("load says %v", err)
				}
				prints(t, target, test.before)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			saysFinding(t, p.Findings, finding.SymbolAmbiguous, test.warning)
			activate(t, e, p)
			prints(t, target, test.after)
		})
	}
}

// A variable of hidden visibility is the module's own, where a global one is the
// program's.
func TestAHiddenVariableThatTheProgramHasTooIsNamed(t *testing.T) {
	exe := cshop(t, "-O2")
	for flag, warned := range map[string]bool{"-fvisibility=hidden": true, "-Wl,-Bsymbolic": true, "-fPIC": false} {
		m := cModule(t, "int rate = 3; __attribute__((visibility(\"default\"))) int total(int n) { return n + rate; }", flag)
		target := targettest.Start(t, targettest.Command{Path: exe})
		prints(t, target, " total=20 ")
		e, detach := attach(t, target)
		p, _, err := e.Load(t.Context(), m)
		detach()
		if err != nil {
			t.Fatal(err)
		}
		if warned {
			saysFinding(t, p.Findings, finding.GlobalChanged, "rate: the module has a variable of this name for itself")
		} else if len(p.Findings) > 0 {
			t.Errorf("%s: %v", flag, p.Findings)
		}
	}
}

// saysFinding looks for a finding with that code and words.
func saysFinding(t testing.TB, findings []finding.Finding, code finding.Code, words string) {
	t.Helper()
	for _, f := range findings {
		if f.Code == code && strings.Contains(f.Function+": "+f.Message, words) {
			return
		}
	}
	t.Errorf("%v has no %s with %q", findings, code, words)
}
