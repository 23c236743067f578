package emit

import (
	"strings"
	"testing"
)

// otherLocal adds a function with a type of the same name as doubled's, and before
// it: the compiler numbers the two, so that doubled's gets another number, and the
// new one doubled's.
var otherLocal = []edit{
	{"main.go", "//go:noinline\nfunc work(", `//go:noinline
func other(n int) any {
	type local struct{ text string }
	return map[int]*[1]local{n: {{fmt.Sprint(n)}}}
}

//go:noinline
func work(`},
	{"main.go", "	counts.add(best.name())\n", "	counts.add(fmt.Sprint(other(n)))\n"},
}

func TestALocalTypeOfAKnownNameChangesNoOtherFunction(t *testing.T) {
	in, _ := emitted(t, plain, otherLocal...)
	for _, c := range in.Diff.Changed {
		if name := in.New.Symbols[c.New].Name; name != "main.work" {
			t.Errorf("%s changed: %s", name, c.Why)
		}
	}
}

func TestLocalTypesThatAreRenumberedAreNotMistakenForEachOther(t *testing.T) {
	in, l := emitted(t, plain, append(otherLocal, edit{"main.go", "{n, 2 * n}", "{n, 3 * n}"})...)
	if len(in.Diff.Changed) != 2 {
		t.Errorf("%d functions changed, want work and doubled", len(in.Diff.Changed))
	}
	for _, bind := range l.m.Manifest.Go.Types {
		if strings.HasSuffix(bind.String, "main.local") {
			t.Errorf("%s is bound to the target's %s", bind.Symbol, bind.String)
		}
	}
	said := ""
	for _, f := range l.m.Manifest.Findings {
		said += f.String() + "\n"
	}
	if !strings.Contains(said, "the type main.local, which is declared in a function, has another number than in the program") {
		t.Errorf("the findings are\n%s", said)
	}
}
