package build

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher/module"
)

func TestLinesArePaired(t *testing.T) {
	for _, test := range []struct{ was, is, want string }{
		{"", "", "[]"},
		{"a\nb\n", "a\nb\n", "[{1 1 2}]"},
		{"a\nb\nc\n", "a\nx\nb\nc\n", "[{1 1 1} {2 3 2}]"},
		{"a\nb\nc\n", "a\nc\n", "[{1 1 1} {3 2 1}]"},
		{"a\nb\nc\n", "a\nB\nc\n", "[{1 1 3}]"},
		{"a\nb", "x\na\nb", "[{1 2 2}]"},
		{"", "a\nb\n", "[]"},
		{"a\n", "b\n", "[{1 1 1}]"},
		{"a\nb\nc\n", "a\nx\ny\nz\nc\n", "[{1 1 2} {3 5 1}]"},
		{"a\nb\nc\nd\n", "a\nx\nd\n", "[{1 1 2} {4 3 1}]"},
	} {
		if got := fmt.Sprint(pairLines(test.was, test.is)); got != test.want {
			t.Errorf("%q, %q: %s, want %s", test.was, test.is, got, test.want)
		}
	}
}

// In texts of very many different lines too.
func TestLinesThatAreTheSameArePaired(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 40 {
		var was, is []string
		for i := range 70_000 / (1 + round*round) {
			line := fmt.Sprint("line ", i)
			if round%2 == 1 {
				line = fmt.Sprint("line ", random.IntN(9))
			}
			was = append(was, line)
			switch random.IntN(20) {
			case 0:
			case 1:
				is = append(is, line, "new")
			case 2:
				is = append(is, "changed")
			default:
				is = append(is, line)
			}
		}
		text := func(lines []string) string { return strings.Join(lines, "\n") }
		s := module.Source{Lines: pairLines(text(was), text(is))}
		n := 0
		for i, line := range is {
			if old, ok := s.OldLine(i + 1); ok && was[old-1] == line {
				n++
			}
		}
		if n*4 < len(is)*3 {
			t.Errorf("round %d: %d of %d lines are the same", round, n, len(is))
		}
	}
}

func TestAModuleKnowsWhereUnchangedLinesWere(t *testing.T) {
	for _, flags := range [][]string{nil, {"-trimpath"}} {
		t.Run(strings.Join(flags, ""), func(t *testing.T) {
			b := buildServer(t, flags...)
			path := filepath.Join(b.dir, "greet/greet.go")
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			b.editGreeting(t)
			edit(t, path, "package greet\n", "package greet\n\n// One line more.\n")
			r, err := Build(t.Context(), b.options(t))
			if err != nil {
				t.Fatal(err)
			}
			m, err := module.Open(r.Path)
			if err != nil {
				t.Fatal(err)
			}
			if len(m.Manifest.Sources) != 1 {
				t.Fatalf("the changed files are %+v", m.Manifest.Sources)
			}
			s := m.Manifest.Sources[0]
			name, _, _ := strings.Cut(m.Manifest.Functions[0].Source, ":")
			if s.Path != name || (s.Path == path) == (flags != nil) {
				t.Errorf("the changed file is %s, the function is in %s", s.Path, name)
			}
			changed := 1 + strings.Count(strings.Split(string(before), `"world"`)[0], "\n")
			if old, ok := s.OldLine(changed + 3); !ok || old != changed+1 {
				t.Errorf("the line after the change was %d (%t), want %d", old, ok, changed+1)
			}
			if old, ok := s.OldLine(changed + 2); !ok || old != changed {
				t.Errorf("the changed line was %d (%t), want %d", old, ok, changed)
			}
			now, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := s.OldLine(1 + strings.Count(strings.Split(string(now), "// One line")[0], "\n")); ok {
				t.Error("the new line was there before")
			}
		})
	}
}
