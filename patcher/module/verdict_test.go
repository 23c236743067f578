package module

import (
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher/finding"
)

func TestVerdictsAreInTheOrderOfTheSource(t *testing.T) {
	m := &Manifest{
		Functions: []Function{{Symbol: "main.b", Source: "b.go:10", Why: "a constant differs"}, {Symbol: "main.a", Source: "b.go:9"}},
		Added:     []Declared{{Symbol: "main.n", Source: "a.go:1"}},
		LeftOut:   []Declared{{Symbol: "main.l", Source: "b.go:2", Why: "it uses a type"}},
	}
	var lines []string
	for _, v := range m.Verdicts([]finding.Finding{
		{Severity: finding.Error, Function: "main.a", Message: "its entry is too short"},
		{Severity: finding.Warning, Function: "main.b", Message: "it never returns"},
	}) {
		lines = append(lines, v.String())
	}
	want := `a.go:1: info: main.n: new
b.go:2: warning: main.l: keeps old code: it uses a type
b.go:9: error: main.a: refused: its entry is too short
b.go:10: info: main.b: replaced: a constant differs`
	if got := strings.Join(lines, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
