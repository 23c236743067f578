package build

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher/finding"
)

func TestAnEditOfCIsSaidToStayOut(t *testing.T) {
	isolate(t)
	dir := server(t)
	write(t, dir, "count.h", "static int twice(int n) { return 2 * n; }\n",
		"count.go", "package main\n\n/*\n#include \"count.h\"\nstatic int thrice(int n) { return 3 * n; }\n*/\nimport \"C\"\n\nvar six = price(2)\n\n//go:noinline\nfunc price(n int) int { return int(C.thrice(C.twice(C.int(n)))) }\n")
	gitInit(t, dir)
	b := &built{dir: dir, target: goBuild(t, dir)}

	edit(t, filepath.Join(dir, "count.go"), "3 * n", "n + n + n")
	edit(t, filepath.Join(dir, "count.h"), "2 * n", "n + n")
	_, err := Build(context.Background(), b.options(t))
	refused(t, err, finding.NoChange, "no function of the running program changes")
	for _, want := range []string{"count.go:3: warning: the C code of package main changed, and C code is not patched", "count.h:1: warning: the C code"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("nothing says %q in\n%v", want, err)
		}
	}

	// What cgo makes has other names after each edit of the file.
	edit(t, filepath.Join(dir, "count.go"), "return int(", "return 1 + int(")
	r, err := Build(context.Background(), b.options(t))
	replaces(t, r, err, "main.price")
	n := 0
	for _, f := range r.Findings {
		if strings.Contains(f.Message, "C code is not patched") {
			n++
		}
	}
	if n != 2 {
		t.Errorf("%d findings about C: %v", n, r.Findings)
	}
}
