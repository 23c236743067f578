package patcher_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/internal/targettest"
)

// cProgramOf compiles a program.
func cProgramOf(t *testing.T, source string, flags ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program.c")
	if err := os.WriteFile(path, []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	return targettest.Build(t, path, append([]string{"-O2"}, flags...)...)
}

// What a patch writes into the program's one word of the heap stays there.
const keeper = `
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int n;
int (**volatile kept)(int);
__attribute__((noinline, noclone)) int tick(int a) { n += a; getpid(); return n; }
int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	kept = calloc(1, sizeof *kept);
	for (;;) {
		printf("tick=%d kept=%d\n", tick(0), *kept ? (*kept)(1) : 0);
		usleep(5000);
	}
}
`

// A coroutine that was put aside in the middle of a call goes on there when
// SIGUSR1 comes; until then its stack lies in the heap, above or below that of the
// one that runs.
const coroutines = `
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>
#include <unistd.h>
static ucontext_t first, second, begin;
static volatile sig_atomic_t go;
static void on(int s) { (void)s; go = 1; }
int calls;
void pause_here(void) { swapcontext(&second, &first); }
__attribute__((noinline, noclone)) int tick(int a) { calls += a; pause_here(); return calls + a; }
static void ticks(void)
{
	for (;;)
		printf("ticked=%d\n", tick(1));
}
static void switches(void)
{
	for (;;) {
		swapcontext(&first, &second);
		for (go = 0; !go;) {
			printf("waits=%d\n", calls);
			usleep(5000);
		}
	}
}
static void make(ucontext_t *c, void (*f)(void), char *stack)
{
	getcontext(c);
	c->uc_stack.ss_sp = stack;
	c->uc_stack.ss_size = 65536;
	makecontext(c, f, 0);
}
int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGUSR1, on);
	char *stacks = malloc(2 * 65536);
	make(&first, switches, stacks + (argc > 1) * 65536);
	make(&second, ticks, stacks + (argc == 1) * 65536);
	swapcontext(&begin, &first);
}
`

// A module is never taken away from under a word in memory that leads into it,
// be it to a function that has a symbol or not.
func TestAModuleThatAWordInMemoryLeadsIntoStaysLoaded(t *testing.T) {
	const fix = `
extern int (**volatile kept)(int);
static int mine(int x) { return x + 6; }
int tick(int a) { if (!*kept) *kept = mine; return 1000 + a; }
`
	for _, test := range []struct{ name, flag string }{{"with symbols", "-g"}, {"stripped", "-s"}} {
		t.Run(test.name, func(t *testing.T) {
			exe, m := cProgramOf(t, keeper), cModule(t, fix, test.flag)
			target := targettest.Start(t, targettest.Command{Path: exe})
			prints(t, target, "tick=0 kept=0")
			e, _ := attach(t, target)
			p := load(t, e, m)
			activate(t, e, p)
			prints(t, target, "tick=1000 kept=7")
			deactivate(t, e, p)
			prints(t, target, "tick=0 kept=7")
			if _, err := e.Unload(t.Context(), p.ID); finding.CodeOf(err) != finding.InUse || !strings.Contains(err.Error(), "[heap] at ") {
				t.Fatalf("unload says %v", err)
			}
			prints(t, target, "tick=0 kept=7")
		})
	}
}

// Nor from under a coroutine that was put aside in it.
func TestAModuleThatACoroutineIsInStaysLoaded(t *testing.T) {
	const fix = `
extern int calls;
void pause_here(void);
int tick(int a) { pause_here(); calls += a; return 1000; }
`
	for _, args := range [][]string{nil, {"above"}} {
		t.Run(strings.Join(append(args, "the one that runs"), " "), func(t *testing.T) {
			exe, m := cProgramOf(t, coroutines), cModule(t, fix)
			target := targettest.Start(t, targettest.Command{Path: exe, Args: args})
			prints(t, target, "waits=1")
			e, _ := attach(t, target)
			p := load(t, e, m)
			activate(t, e, p)
			goOn := func() {
				if err := syscall.Kill(target.Pid(), syscall.SIGUSR1); err != nil {
					t.Fatal(err)
				}
			}
			goOn() // leaves the old code, and enters the new
			targettest.Eventually(t, "a return of the old code", func() bool { return strings.Contains(target.Output(), "ticked=2\n") })
			deactivate(t, e, p)
			if _, err := e.Unload(t.Context(), p.ID); finding.CodeOf(err) != finding.InUse {
				t.Fatalf("unload says %v", err)
			}
			goOn()
			targettest.Eventually(t, "a return of the new code", func() bool { return strings.Contains(target.Output(), "ticked=1000\n") })
			prints(t, target, "waits=3")
			target.MustLive()
		})
	}
}
