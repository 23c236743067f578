package live_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher/build"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/internal/targettest"
	"github.com/darn-dev/darn/patcher/module"
)

// What depends on a changed layout, variable or initialisation is left out,
// even where only its code shows it.
func TestAPartialBuildLeavesOutWhatDependsOnWhatIsRefused(t *testing.T) {
	dir := t.TempDir()
	program, old := filepath.Join(dir, "partial"), filepath.Join(dir, "old")
	for _, to := range []string{program, old} {
		if err := os.CopyFS(to, os.DirFS("../testdata/partial")); err != nil {
			t.Fatal(err)
		}
	}
	target := targettest.Build(t, program)
	text, err := os.ReadFile(filepath.Join(old, "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	// Each function of the program prints that it is new, with:
	edited := strings.NewReplacer(
		"	name  string\n", "	first int\n	name  string\n",
		"limit = 20", "limit = 30",
		"count   int\n", "count   uint32\n",
		"func renamed(n int)", "func renamed(n int, _ ...string)",
		"var (\n", "type pair struct{ a, b *config }\n\nfunc (p pair) String() string { return p.a.name }\n\nvar (\n",
		"type mark struct{ n int }\n", "type mark struct{ n int }\n\nfunc (m mark) String() string { return \"mark\" }\n",
		`fmt.Sprint("made old")`, `fmt.Sprint("made new", pair{})`,
		" old ", " new ").Replace(string(text))
	if err := os.WriteFile(filepath.Join(program, "main.go"), []byte(edited), 0o644); err != nil {
		t.Fatal(err)
	}
	o := build.Options{Dir: program, Base: old, Target: target, Output: filepath.Join(dir, "fix.so")}
	if _, err := build.Build(t.Context(), o); finding.CodeOf(err) == "" {
		t.Fatalf("the whole of it: %v", err)
	}
	o.Partial = true
	r, err := build.Build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	names := func(functions []build.Function) (names []string) {
		for _, f := range functions {
			names = append(names, f.Name)
			if f.Why == "" || !strings.Contains(f.Source, "main.go:") {
				t.Errorf("of %s it is not said why or where: %+v", f.Name, f)
			}
		}
		slices.Sort(names)
		return names
	}
	if got := strings.Join(names(r.Functions), " "); got != "main.calling main.plain" {
		t.Errorf("replaced: %s", got)
	}
	if got := strings.Join(names(r.LeftOut), " "); got != "main.callingField main.closing main.counted main.field main.inlines main.limited main.made main.marked" {
		t.Errorf("left out: %s", got)
	}
	for function, words := range map[string]string{
		"main.inlines": "; it depends on that via main.calls", "main.made": "; it depends on that via main.pair.String",
		"main.closing": "; with it what changes in it: main.closing.func1",
	} {
		if !slices.ContainsFunc(r.Findings, func(f finding.Finding) bool { return f.Function == function && strings.HasSuffix(f.Message, words) }) {
			t.Errorf("it is not said of %s: %s: %v", function, words, r.Findings)
		}
	}
	m, err := module.Open(r.Path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		code     finding.Code
		function string
	}{
		{finding.TypeLayoutChanged, "main.config"}, {finding.TypeLayoutChanged, "main.inlines"},
		{finding.InitChanged, "main.init.0"}, {finding.InitChanged, "main.limited"},
		{finding.GlobalChanged, "main.count"}, {finding.GlobalChanged, "main.counted"},
		{finding.MethodSetChanged, "main.marked"},
	} {
		if !slices.ContainsFunc(m.Manifest.Findings, func(f finding.Finding) bool {
			return f.Code == want.code && f.Function == want.function && f.Severity == finding.Warning && f.Source != "" && strings.Contains(f.Message, "left out")
		}) {
			t.Errorf("the manifest has no %v: %v", want, m.Manifest.Findings)
		}
	}
	var outcomes []string
	for _, v := range m.Manifest.Verdicts(nil) {
		outcomes = append(outcomes, v.Function+" "+string(v.Outcome))
	}
	if got := strings.Join(outcomes, ", "); got != "main.plain replaced, main.field keeps old code, main.inlines keeps old code, main.limited keeps old code, "+
		"main.counted keeps old code, main.renamed new, main.calling replaced, main.callingField keeps old code, main.made keeps old code, "+
		"main.closing keeps old code, main.marked keeps old code" {
		t.Errorf("verdicts: %s", got)
	}

	g := targettest.Start(t, targettest.Command{Path: target, Env: []string{"GOGC=1"}})
	g.Line("closing old field old config")
	patch(t, g, r.Path, []string{"plain new 1", "calling new renamed new 1", "field old config", "callingField old renamed old 2", "limited old true", "marked old {3}"}, "plain old")
}
