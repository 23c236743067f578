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

func TestSameLines(t *testing.T) {
	for _, test := range []struct{ was, is, want string }{
		{"", "", "[]"},
		{"a\nb\n", "a\nb\n", "[{1 1 2}]"},
		{"a\nb\nc\n", "a\nx\nb\nc\n", "[{1 1 1} {2 3 2}]"},
		{"a\nb\nc\n", "a\nc\n", "[{1 1 1} {3 2 1}]"},
		{"a\nb\nc\n", "a\nB\nc\n", "[{1 1 1} {3 3 1}]"},
		{"a\nb", "x\na\nb", "[{1 2 2}]"},
		{"", "a\nb\n", "[]"},
		{"a\n", "b\n", "[]"},
	} {
		if got := fmt.Sprint(sameLines(test.was, test.is)); got != test.want {
			t.Errorf("%q, %q: %s, want %s", test.was, test.is, got, test.want)
		}
	}
}

// Whatever is said to be the same is, in texts of very many different lines too.
func TestSameLinesAreTheSame(t *testing.T) {
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
		s := module.Source{Same: sameLines(text(was), text(is))}
		n := 0
		for i, line := range is {
			if old, ok := s.OldLine(i + 1); ok {
				n++
				if was[old-1] != line {
					t.Fatalf("round %d: line %d is %q and was %q", round, i+1, line, was[old-1])
				}
			}
		}
		if n*2 < len(is) {
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
			if _, ok := s.OldLine(changed + 2); ok {
				t.Error("the changed line is the same")
			}
		})
	}
}
