package patcher_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/internal/targettest"
	"github.com/darn-dev/darn/patcher/module"
	"github.com/darn-dev/darn/patcher/process"
)

// A program whose first thread waits in the way that its first argument says, and
// ends if a wait was not what it has to be; others allocate all the time.
const waiter = `
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t fed = PTHREAD_COND_INITIALIZER;
static int food;
static int fds[2];
static volatile int handled;
static const char *kind;
static void on(int s) { (void)s; handled++; }
__attribute__((noinline, noclone)) int answer(int n) { __asm__ volatile("nop; nop; nop; nop" : "+r"(n)); return n + 1; }
static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + t.tv_nsec * 1e-9; }
static void *allocate(void *arg)
{
	for (unsigned i = 0;; i++) {
		void *p[64];
		for (int k = 0; k < 64; k++)
			p[k] = malloc(1 + (i * 7919 + k * 104729) % 5000);
		for (int k = 0; k < 64; k++)
			free(p[k]);
	}
	return arg;
}
static void *feed(void *arg)
{
	for (;;) {
		for (double until = now() + 0.15; now() < until;)
			;
		if (!strcmp(kind, "read") && write(fds[1], "abcdefg", 8) != 8)
			exit(4);
		pthread_mutex_lock(&lock);
		food = 1;
		pthread_cond_signal(&fed);
		pthread_mutex_unlock(&lock);
	}
	return arg;
}
static void *spin(void *arg) { for (;;) answer(1); return arg; }
static long readRaw(char *buf)
{
	// All registers that the kernel leaves alone, and what lies below the stack.
	long r, bad;
	__asm__ volatile("movq $0x1234, %%r12; movq %%r12, %%xmm15; movq %%r12, %%xmm0; movq %%r12, -120(%%rsp); mov $77, %%r8d; mov $78, %%r9d; mov $79, %%r10d; std; cld; stc;"
	                 "syscall; setnc %%cl; movzbl %%cl, %%ecx; mov %%rcx, %1; cmp $77, %%r8; setne %%cl; or %%rcx, %1; cmp $78, %%r9; setne %%cl; or %%rcx, %1;"
	                 "cmp $79, %%r10; setne %%cl; or %%rcx, %1; movq %%xmm15, %%r8; movq %%xmm0, %%r9; cmp %%r12, %%r8; setne %%cl; or %%rcx, %1;"
	                 "cmp %%r12, %%r9; setne %%cl; or %%rcx, %1; cmp %%r12, -120(%%rsp); setne %%cl; or %%rcx, %1; cmp $0x1234, %%r12; setne %%cl; or %%rcx, %1"
	                 : "=a"(r), "=&r"(bad) : "a"(0), "D"(fds[0]), "S"(buf), "d"(8)
	                 : "rcx", "r8", "r9", "r10", "r11", "r12", "xmm0", "xmm15", "memory", "cc");
	return bad ? -bad : r;
}
static int waits(void)
{
	struct timespec t = {0, 150000000};
	double begun = now();
	errno = 0;
	if (!strcmp(kind, "sleep"))
		return nanosleep(&t, NULL) == 0 && now() - begun >= 0.15 && now() - begun < 0.6;
	if (!strcmp(kind, "poll"))
		return poll(NULL, 0, 150) == 0 && now() - begun >= 0.15 && now() - begun < 0.6;
	if (!strcmp(kind, "condition")) {
		pthread_mutex_lock(&lock);
		while (!food)
			if (pthread_cond_wait(&fed, &lock))
				return 0;
		food = 0;
		return pthread_mutex_unlock(&lock) == 0;
	}
	if (!strcmp(kind, "pause"))
		return pause() == -1 && errno == EINTR && handled;
	if (!strcmp(kind, "print")) {
		static char line[1 << 17];
		memset(line, 'x', sizeof line - 1);
		dup2(fds[1], 2); // which nobody reads
		for (;;)
			fprintf(stderr, "%s", line);
	}
	if (!strcmp(kind, "handler"))
		return raise(SIGUSR2);
	char buf[8];
	if (!strcmp(kind, "read"))
		return readRaw(buf) == 8 && !strcmp(buf, "abcdefg") && errno == 0;
	for (;;)
		answer(1);
}
static void hang(int s) { (void)s; for (;;) sleep(1); }
int main(int argc, char **argv)
{
	kind = argv[1];
	pthread_t t;
	setvbuf(stdout, NULL, _IOLBF, 0);
	struct sigaction a = {.sa_handler = on};
	sigaction(SIGUSR1, &a, NULL);
	signal(SIGUSR2, hang);
	if (pipe(fds))
		return 2;
	for (int i = 0; i < atoi(argv[2]); i++)
		pthread_create(&t, NULL, allocate, NULL);
	if (!strcmp(kind, "read") || !strcmp(kind, "condition"))
		pthread_create(&t, NULL, feed, NULL);
	printf("ready\n");
	for (int n = 0;; n++) {
		if (!waits()) {
			printf("FAIL errno %d\n", errno);
			return 3;
		}
		printf("%d answer=%d handled=%d\n", n, answer(1), handled);
	}
	spin(argv + argc);
}
`

// extra is a library, and a module that was linked with it. The library's
// constructor runs code.
func extra(t *testing.T, code string) (lib, m string) {
	t.Helper()
	dir := t.TempDir()
	source := filepath.Join(dir, "extra.c")
	if err := os.WriteFile(source, fmt.Appendf(nil, `
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static char *made;
__attribute__((constructor)) static void begin(void) { made = strdup("forty"); errno = 99; __asm__ volatile("pxor %%%%xmm0, %%%%xmm0; pxor %%%%xmm15, %%%%xmm15" ::: "xmm0", "xmm15"); %s; }
int extra_length(void) { return 40 + (int)strlen(made); }
`, code), 0o644); err != nil {
		t.Fatal(err)
	}
	lib = filepath.Join(dir, "libextra.so")
	if out, err := exec.Command("gcc", "-shared", "-fPIC", "-O1", "-Wl,-soname,libextra.so", source, "-o", lib).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return lib, cModule(t, "int extra_length(void); int answer(int n) { return n + extra_length(); }", lib, "-Wl,-rpath,"+dir, "-Wl,--no-as-needed")
}

// dlopens loads a module and what it was linked with.
func dlopens(t *testing.T, e *patcher.Engine, path string) (*patcher.Patch, error) {
	t.Helper()
	m, err := module.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	p, _, err := e.LoadModule(t.Context(), m, path, patcher.LoadOptions{Dlopen: true})
	return p, err
}

func hasMapped(t *testing.T, target *targettest.Target, what string) bool {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", target.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(text), what)
}

// A thread that waits in any way loads the library, finds its wait as it was, and
// all its registers; others allocate all the time.
func TestLibrariesAreLoadedWhenThatIsAskedFor(t *testing.T) {
	exe := cProgramOf(t, waiter, "-pthread")
	_, m := extra(t, "")
	for _, kind := range []string{"sleep", "poll", "condition", "read"} {
		t.Run(kind, func(t *testing.T) {
			target := targettest.Start(t, targettest.Command{Path: exe, Args: []string{kind, "3"}})
			prints(t, target, " answer=2 ")
			e, detach := attach(t, target)
			defer detach()
			if _, _, err := e.Load(t.Context(), m); finding.CodeOf(err) != finding.SymbolUnresolved ||
				!strings.Contains(err.Error(), "linked with libextra.so, which the program has not loaded") || !strings.Contains(err.Error(), "--dlopen") || hasMapped(t, target, "libextra.so") {
				t.Fatalf("load without being asked says %v", err)
			}
			p, err := dlopens(t, e, m)
			if err != nil {
				t.Fatal(err)
			}
			if len(p.Findings) == 0 || p.Findings[0].Code != finding.LibraryLoaded {
				t.Errorf("findings %v", p.Findings)
			}
			prints(t, target, " answer=2 ")
			activate(t, e, p)
			prints(t, target, " answer=46 ")
			deactivate(t, e, p)
			prints(t, target, " answer=2 ")
			targettest.Eventually(t, "an unload", func() bool {
				_, err = e.Unload(t.Context(), p.ID)
				return err == nil
			})
			prints(t, target, " answer=2 ")
			if !hasMapped(t, target, "libextra.so") {
				t.Error("the library is gone")
			}
			load(t, e, m) // needs no dlopen now
			target.MustLive()
		})
	}
}

// A library that can't be loaded, and programs that can't load one.
func TestLibrariesThatCanNotBeLoaded(t *testing.T) {
	exe := cProgramOf(t, waiter, "-pthread")
	static := cProgramOf(t, waiter, "-pthread", "-static")
	own := cProgramOf(t, strings.Replace(waiter, "#include <time.h>",
		"#include <time.h>\nvoid *calloc(size_t n, size_t m) { return sbrk((n * m + 15) & ~15ul); }\nvoid *malloc(size_t n) { return calloc(n, 1); }\nvoid free(void *p) { (void)p; }\nvoid *realloc(void *p, size_t n) { return p ? NULL : malloc(n); }", 1), "-pthread")
	_, m := extra(t, "")
	lib, gone := extra(t, "")
	if err := os.Remove(lib); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, exe, kind, m string
		code               finding.Code
		words              string
	}{
		{"a library that is not there", exe, "sleep", gone, finding.SymbolUnresolved, "libextra.so: cannot open shared object file: No such file or directory"},
		{"nobody waits", exe, "busy", m, finding.Busy, "none sleeps in a system call"},
		{"a lock of a stream", exe, "print", m, finding.Busy, "of the C library, which may hold a lock"},
		{"a handler of a signal", exe, "handler", m, finding.Busy, "handles a signal"},
		{"a static program", static, "sleep", m, finding.SymbolUnresolved, "extra_length"},
		{"an allocator of the program", own, "sleep", m, finding.UnsupportedTarget, "it has a malloc of its own"},
	} {
		t.Run(test.name, func(t *testing.T) {
			target := targettest.Start(t, targettest.Command{Path: test.exe, Args: []string{test.kind, "0"}})
			targettest.Eventually(t, "its begin", func() bool { return strings.Contains(target.Output(), "ready") })
			e, detach := attach(t, target)
			defer detach()
			before := snapshot(t, target.Pid())
			_, err := dlopens(t, e, test.m)
			if finding.CodeOf(err) != test.code || !strings.Contains(err.Error(), test.words) {
				t.Errorf("load says %v", err)
			}
			if d := before.diff(snapshot(t, target.Pid())); d != "" {
				t.Errorf("the process is not as it was:\n%s", d)
			}
			target.MustLive()
		})
	}
}

// A signal that comes while the library is loaded waits until then, and interrupts
// the system call as it would have.
func TestASignalThatComesWhileALibraryIsLoaded(t *testing.T) {
	exe := cProgramOf(t, waiter, "-pthread")
	goOn := filepath.Join(t.TempDir(), "go on")
	_, m := extra(t, fmt.Sprintf(`write(1, "constructor\n", 12); while (access(%q, F_OK)) usleep(1000)`, goOn))
	target := targettest.Start(t, targettest.Command{Path: exe, Args: []string{"pause", "0"}})
	targettest.Eventually(t, "its begin", func() bool { return strings.Contains(target.Output(), "ready") })
	e, detach := attach(t, target)
	defer detach()
	loaded := make(chan error)
	go func() {
		_, err := dlopens(t, e, m)
		loaded <- err
	}()
	targettest.Eventually(t, "the constructor", func() bool { return strings.Contains(target.Output(), "constructor") })
	if err := syscall.Kill(target.Pid(), syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond)
	if strings.Contains(target.Output(), "handled") {
		t.Error("the handler runs in the middle of the load")
	}
	if err := os.WriteFile(goOn, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-loaded; err != nil {
		t.Fatal(err)
	}
	prints(t, target, "0 answer=2 handled=1")
	target.MustLive()
}

// The thread goes on and the library stays also if Darn is killed in the middle.
func TestDarnIsKilledWhileALibraryIsLoaded(t *testing.T) {
	const pidEnv, moduleEnv = "DARN_TEST_DLOPEN_PID", "DARN_TEST_DLOPEN_MODULE"
	if pid, err := strconv.Atoi(os.Getenv(pidEnv)); err == nil { // is Darn
		p, err := process.Attach(pid)
		if err != nil {
			t.Fatal(err)
		}
		e, err := patcher.Open(p)
		if err != nil {
			t.Fatal(err)
		}
		_, err = dlopens(t, e, os.Getenv(moduleEnv))
		t.Fatal("nobody has killed it", err)
	}
	exe := cProgramOf(t, waiter, "-pthread")
	goOn := filepath.Join(t.TempDir(), "go on")
	_, m := extra(t, fmt.Sprintf(`write(1, "constructor\n", 12); while (access(%q, F_OK)) usleep(1000)`, goOn))
	target := targettest.Start(t, targettest.Command{Path: exe, Args: []string{"read", "1"}})
	prints(t, target, " answer=2 ")
	darn := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	darn.Env = append(os.Environ(), fmt.Sprintf("%s=%d", pidEnv, target.Pid()), moduleEnv+"="+m)
	darn.Stdout, darn.Stderr = os.Stderr, os.Stderr
	if err := darn.Start(); err != nil {
		t.Fatal(err)
	}
	targettest.Eventually(t, "the constructor", func() bool { return strings.Contains(target.Output(), "constructor") })
	if err := darn.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = darn.Wait()
	if err := os.WriteFile(goOn, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	lines := strings.Count(target.Output(), "answer")
	targettest.Eventually(t, "more of the program", func() bool {
		target.MustLive()
		return strings.Count(target.Output(), "answer") > lines+3
	})
	e, detach := attach(t, target)
	defer detach()
	activate(t, e, load(t, e, m)) // needs no dlopen now
	prints(t, target, " answer=46 ")
}
