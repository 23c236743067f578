package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher/build"
)

// TestSourcesOfAModule builds a module; darn knows what its source was and became.
func TestSourcesOfAModule(t *testing.T) {
	house := buildTeahouse(t)
	module := filepath.Join(t.TempDir(), "m.so")
	cmd := command("build", "--json", "--progress", "--target", house.program, "--base", house.base, "-o", module, ".")
	cmd.Dir = house.source
	r := run(t, cmd).ok(t)
	var built build.Result
	r.decode(t, &built)

	var first struct {
		Stage       string
		Done, Total int
	}
	line, _, _ := strings.Cut(r.stderr, "\n")
	if err := json.Unmarshal([]byte(line), &first); err != nil || first.Stage != "reading the target" || first.Total == 0 {
		t.Errorf("the first line of progress is %q: %v", line, err)
	}

	for _, name := range []string{module, built.ID} {
		var known struct{ Sources []build.Text }
		darn(t, "sources", "--json", name).ok(t).decode(t, &known)
		if len(known.Sources) != 1 || known.Sources[0].Path != filepath.Join(house.source, "bill.go") {
			t.Fatalf("sources of %s: %+v", name, known.Sources)
		}
		for copy, of := range map[string]string{
			known.Sources[0].Old: filepath.Join(house.base, "bill.go"),
			known.Sources[0].New: filepath.Join(house.source, "bill.go"),
		} {
			got, err := os.ReadFile(copy)
			if err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(of)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != string(want) {
				t.Errorf("%s is not a copy of %s", copy, of)
			}
		}
	}
	if r := darn(t, "sources", module).ok(t); !strings.Contains(r.stdout, "bill.go\n  old ") {
		t.Errorf("in words: %q", r.stdout)
	}

	strange := strings.Repeat("0a", 32)
	if r := darn(t, "sources", strange); r.code != exitRefused || !strings.Contains(r.stderr, "the source that the module 0a0a0a0a0a0a was built from is not known here") {
		t.Errorf("a module that nobody knows: %+v", r)
	}
}
