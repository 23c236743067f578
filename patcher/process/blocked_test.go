package process

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/darn-dev/darn/patcher/finding"
)

// A program whose thread stays in vfork is refused before anything is stopped.
func TestAThreadInVforkIsRefused(t *testing.T) {
	source := `
#include <pthread.h>
#include <unistd.h>
static void *forks(void *x) { if (vfork() == 0) { pause(); _exit(0); } return x; }
int main(void) { pthread_t t; pthread_create(&t, 0, forks, 0); for (;;) pause(); }
`
	exe := t.TempDir() + "/forks"
	compile := exec.Command("gcc", "-x", "c", "-o", exe, "-")
	compile.Stdin = strings.NewReader(source)
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.Command(exe)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, child := range childrenOf(cmd.Process.Pid) {
			_ = syscall.Kill(child, syscall.SIGKILL)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for end := time.Now().Add(10 * time.Second); unstoppable(cmd.Process.Pid) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no thread is in vfork")
		}
	}
	_, err := Attach(cmd.Process.Pid)
	if finding.CodeOf(err) != finding.Busy || !strings.Contains(err.Error(), "such as vfork while its child runs") {
		t.Errorf("attaching says %v", err)
	}
}

// childrenOf returns the children that a process's threads have made.
func childrenOf(pid int) (children []int) {
	files, _ := filepath.Glob(procPath(pid, "task/*/children"))
	for _, file := range files {
		data, _ := os.ReadFile(file)
		for _, f := range strings.Fields(string(data)) {
			child, _ := strconv.Atoi(f)
			children = append(children, child)
		}
	}
	return children
}
