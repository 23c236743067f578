package process

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
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
