package process

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher/internal/targettest"
)

func TestWhatADivertedThreadRunsIsItsSource(t *testing.T) {
	object := filepath.Join(t.TempDir(), "divert.o")
	code := filepath.Join(t.TempDir(), "divert.bin")
	for _, args := range [][]string{{"gcc", "-c", "testdata/divert.S", "-o", object}, {"objcopy", "-O", "binary", "-j", ".text", object, code}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	want, err := os.ReadFile(code)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(diverted, want) {
		t.Errorf("assembled it is\n% x, not\n% x", want, diverted)
	}
}

// The dynamic linker of a C program has the code that it had: a breakpoint there
// would end the program in its next dlopen.
func TestNothingIsLeftInTheDynamicLinker(t *testing.T) {
	exe := targettest.Build(t, "cthreads.c", "-lm")
	target := targettest.Start(t, targettest.Command{Path: exe})
	linker := func() []byte {
		maps, err := ReadMaps(target.Pid())
		if err != nil {
			t.Fatal(err)
		}
		mem, err := os.Open(procPath(target.Pid(), "mem"))
		if err != nil {
			t.Fatal(err)
		}
		defer mem.Close()
		for _, m := range maps {
			if strings.HasPrefix(m.Perms, "r-x") && strings.HasPrefix(filepath.Base(m.Path), "ld-linux") {
				code := make([]byte, m.End-m.Start)
				if _, err := mem.ReadAt(code, int64(m.Start)); err != nil {
					t.Fatal(err)
				}
				return code
			}
		}
		t.Fatal("the program has no dynamic linker")
		return nil
	}
	before := linker()
	p, err := Attach(target.Pid())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(linker(), before) {
		t.Error("it is changed while the program is traced")
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(linker(), before) {
		t.Error("it stays changed")
	}
}
