package emit

import (
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher/build/object"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/gotype"
)

// blind makes Emit see a difference of which Compare says nothing bad, so that
// Emit's own checks have to see it.
func blind(d *object.Diff) {
	kept := d.Findings[:0]
	for _, f := range d.Findings {
		if f.Severity != finding.Error {
			kept = append(kept, f)
		}
	}
	d.Findings = kept
}

func TestRefusals(t *testing.T) {
	use := edit{"main.go", "	counts.add(best.name())\n", "	counts.add(best.name())\n	use(best)\n"}
	with := func(source string) edit { return edit{"main.go", "func main() {", source + "\n\nfunc main() {"} }
	for _, x := range []struct {
		name  string
		edits []edit
		code  finding.Code
		texts []string
	}{
		{"a field is added", []edit{use, {"main.go", "type square struct{ side float64 }", "type square struct{ side, depth float64 }"},
			{"main.go", "square{float64(n)}", "square{float64(n), 1}"}, with("func use(s shape) { fmt.Println(s.(square).depth) }")},
			finding.TypeLayoutChanged, []string{"main.square", "field depth was added", "restart the program"}},
		{"a field's type is changed", []edit{use, {"main.go", "type square struct{ side float64 }", "type square struct{ side float32 }"},
			{"main.go", "return s.side * s.side", "return float64(s.side * s.side)"}, {"main.go", "square{float64(n)}", "square{float32(n)}"},
			with("func use(s shape) { fmt.Println(s.(square)) }")},
			finding.TypeLayoutChanged, []string{"main.square"}},
		{"a method is added to an interface", []edit{use, {"main.go", "	name() string\n}", "	name() string\n	corners() int\n}"},
			with("func (s square) corners() int { return 4 }\n\nfunc (c *circle) corners() int { return 0 }\n\nfunc use(s shape) { fmt.Println(s.corners()) }")},
			finding.TypeLayoutChanged, []string{"method corners was added"}},
		{"a method is added to a type", []edit{use,
			with("func (s square) String() string { return \"a square\" }\n\nfunc use(s shape) { fmt.Println(s.(square)) }")},
			finding.MethodSetChanged, []string{"main.square", "method String was added"}},
		{"a method is removed that an interface asks for", []edit{use, {"main.go", "func (s square) name() string  { return \"square\" }\n", ""},
			{"main.go", "shapes := []shape{square{float64(n)}, ", "fmt.Println(square{float64(n)})\n	shapes := []shape{"},
			with("func use(s shape) { fmt.Println(s) }")},
			finding.MethodSetChanged, []string{"main.square", "method name was removed"}},
		{"a variable grows", []edit{{"main.go", "	n  map[string]int\n}", "	n  map[string]int\n	total [4]int\n}"},
			{"main.go", "	return c.n[key]\n", "	c.total[1]++\n	return c.n[key] + counts.total[1]\n"}},
			finding.GlobalChanged, []string{"main.counts", "16 bytes and has 48"}},
		{"a new variable is set by func init", []edit{use, with("var host string\n\nfunc init() { host = time.Now().String() }\n\nfunc use(s shape) { fmt.Println(host) }")},
			finding.InitChanged, []string{"main.host", "has run already", "sync.Once"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			in := plain.input(t, x.edits...)
			blind(in.Diff)
			_, _, err := Emit(in)
			if finding.CodeOf(err) != x.code {
				t.Fatalf("got %v, wanted %s", err, x.code)
			}
			for _, text := range x.texts {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("%q does not say %q", err, text)
				}
			}
			t.Log(err)
		})
	}
}

func TestAMethodThatNoInterfaceAsksForMayBeAdded(t *testing.T) {
	in, l := emitted(t, plain, edit{"main.go", "	counts.add(best.name())\n", "	counts.add(fmt.Sprint(square{1}.corners(), square{2}))\n"},
		edit{"main.go", "func main() {", "//go:noinline\nfunc (s square) corners() int { return 4 }\n\nfunc main() {"})
	if _, ok := l.addr["main.square.corners"]; !ok {
		t.Error("the new method is not in the module")
	}
	c := newChecker(t, in, l)
	c.types.Ignore = func(_ *gotype.Type, method string) bool { return method == "corners" }
	c.functions()
}

func TestWhatCompareRefusedIsRefused(t *testing.T) {
	in := plain.input(t, edits["a constant"]...)
	in.Diff.Findings = append(in.Diff.Findings,
		finding.Finding{Code: finding.SignatureChanged, Severity: finding.Error, Message: "it takes more"},
		finding.Finding{Code: finding.NeverReturns, Severity: finding.Warning, Message: "it never returns"})
	_, _, err := Emit(in)
	if finding.CodeOf(err) != finding.SignatureChanged || strings.Contains(err.Error(), "never returns") {
		t.Fatal(err)
	}
}

func TestTheRuntimeIsNotPatched(t *testing.T) {
	in := plain.input(t, edits["a constant"]...)
	old, okOld := in.Base.Lookup("runtime.mallocgc")
	fn, okNew := in.New.Lookup("runtime.mallocgc")
	if !okOld || !okNew {
		t.Fatal("no runtime.mallocgc")
	}
	in.Diff.Changed = append(in.Diff.Changed, object.Change{Base: old, New: fn})
	_, _, err := Emit(in)
	if finding.CodeOf(err) != finding.UnsupportedBuild || !strings.Contains(err.Error(), "runtime.mallocgc: it belongs to the Go runtime") {
		t.Fatal(err)
	}
}

func TestAnEditWithoutEffectIsSaidToHaveNone(t *testing.T) {
	in := plain.input(t, edits["a constant"]...)
	in.Diff.Changed = nil
	if _, _, err := Emit(in); finding.CodeOf(err) != finding.NoChange {
		t.Fatal(err)
	}
}

func TestNewVariablesAskForInitialisation(t *testing.T) {
	for name, x := range map[string]struct{ declare, want string }{
		"a call":                      {"var host = time.Now().String()", "main.host"},
		"a map":                       {"var host = map[int]string{1: \"one\"}[1]", "main.host"},
		"an element":                  {"var hosts = []string{\"here\", time.Now().String()}\nvar host = \"static\"", "main.hosts"},
		"one that is needed by a map": {"var host = many[n]\nvar n = 7\nvar many = map[int]string{7: \"seven\"}", "main.host"},
		"nothing":                     {"var host = \"static\"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			use := "host"
			if x.want == "main.hosts" {
				use = "hosts[1]"
			}
			in := plain.input(t, edit{"main.go", "counts.add(best.name())\n", "counts.add(best.name() + " + use + ")\n"},
				edit{"main.go", "func main() {", x.declare + "\n\nfunc main() {"})
			blind(in.Diff)
			_, _, err := Emit(in)
			need, ok := err.(*InitNeeded)
			if x.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if !ok || strings.Join(need.Variables, " ") != x.want || len(need.Packages) != 0 {
				t.Fatalf("%v: %+v", err, need)
			}
		})
	}
}

func TestNewPackagesAskForInitialisation(t *testing.T) {
	in := plain.input(t, whole(t, "packages.go"))
	_, _, err := Emit(in)
	need, ok := err.(*InitNeeded)
	if !ok {
		t.Fatal(err)
	}
	if names := strings.Join(need.Packages, " "); !strings.Contains(names, "encoding/json") || !strings.Contains(names, "text/template") {
		t.Errorf("new packages: %s", names)
	}
}
