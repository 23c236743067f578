package object

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher/build/source"
	"github.com/darn-dev/darn/patcher/finding"
)

// sample is a program with one of everything that an edit may touch.
var sample = program{dir: "testdata/sample"}

var sampleBase = cached(func(t testing.TB) *Object { return sample.capture(t, nil) })

// edit replaces text in the sample's main.go, pair by pair.
func edit(t testing.TB, oldnew ...string) map[string]string {
	t.Helper()
	return editFile(t, sample, "main.go", oldnew...)
}

// editFile replaces text in a file of a program.
func editFile(t testing.TB, p program, name string, oldnew ...string) map[string]string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(p.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	s := string(data)
	for i := 0; i < len(oldnew); i += 2 {
		if strings.Count(s, oldnew[i]) != 1 {
			t.Fatalf("%q is in the source %d times", oldnew[i], strings.Count(s, oldnew[i]))
		}
		s = strings.Replace(s, oldnew[i], oldnew[i+1], 1)
	}
	return map[string]string{name: s}
}

func TestCompare(t *testing.T) {
	cases := []struct {
		name string
		edit []string
		// Functions, all of package main, and findings as code:severity:subject,
		// in order.
		changed, added, removed, lost, findings string
	}{
		{name: "a comment",
			edit:     []string{"func double", "// double\nfunc double"},
			findings: "no-change:warning:"},
		{name: "lines that shift",
			edit:     []string{"const limit = 10", "\n\n\nconst limit = 10"},
			findings: "no-change:warning:"},
		{name: "a function's body",
			edit:    []string{"counter++", "counter += 2"},
			changed: "main.greet"},
		{name: "a method's body",
			edit:    []string{"return s.side * s.side", "return s.side * s.side * 2"},
			changed: "main.(*square).area"},
		{name: "a string of the same length",
			edit:    []string{"hello, dear ", "howdy, dear "},
			changed: "main.greet"},
		{name: "a string of another length",
			edit:    []string{"hello, dear ", "hello, my dear "},
			changed: "main.greet"},
		{name: "one more string",
			edit:    []string{"counter++", "counter++; println(\"counting\")"},
			changed: "main.greet"},
		{name: "the end of a string that is also sliced",
			edit:    []string{"prefix and suffix", "prefix and ending"},
			changed: "main.sliced main.whole"},
		{name: "a new closure",
			edit:    []string{"counter++", "func() { defer println(name); counter++ }()"},
			changed: "main.greet",
			added:   "main.greet.func1 main.greet.func1.deferwrap1"},
		{name: "a new closure before another",
			edit:    []string{"total := 0\n", "total := 0\n\tdefer func() { println(recover() != nil) }()\n"},
			changed: "main.adder",
			added:   "main.adder.func1"},
		{name: "a closure's body",
			edit:    []string{"total += k + n", "total += k + n + 1"},
			changed: "main.adder.func1"},
		{name: "one of two closures",
			edit:    []string{"second ", "zweitens "},
			changed: "main.pair.func2"},
		{name: "a variable that is not captured any more",
			edit:     []string{"total += k + n", "total += k"},
			changed:  "main.adder",
			added:    "main.adder.func1",
			removed:  "main.adder.func1",
			lost:     "main.adder>main.adder.func1",
			findings: "closure-captures-changed:warning:main.adder.func1"},
		{name: "one more variable captured",
			edit:     []string{"\"first \" + a", "\"first \" + a + b"},
			changed:  "main.pair",
			added:    "main.pair.func1",
			removed:  "main.pair.func1",
			lost:     "main.pair>main.pair.func1",
			findings: "closure-captures-changed:warning:main.pair.func1"},
		{name: "a captured variable's type, declared in the function",
			edit:     []string{"type walk struct{ at, by int }", "type walk struct{ by, at int }"},
			changed:  "main.walker",
			added:    "main.walker.func1",
			removed:  "main.walker.func1",
			lost:     "main.walker>main.walker.func1",
			findings: "closure-captures-changed:warning:main.walker.func1"},
		{name: "a closure over a variable of a type declared in the function",
			edit:    []string{"w.at += w.by", "w.at -= w.by"},
			changed: "main.walker.func1"},
		{name: "a closure removed",
			edit:    []string{"func() string { return \"first \" + a }", "nil"},
			changed: "main.pair",
			removed: "main.pair.func1",
			lost:    "main.pair>main.pair.func1"},
		{name: "a closure removed before a changed one",
			edit:     []string{"func() string { return \"first \" + a }", "nil", "second ", "zweitens "},
			changed:  "main.pair main.pair.func1<-main.pair.func2",
			removed:  "main.pair.func1",
			lost:     "main.pair>main.pair.func1",
			findings: "closure-captures-changed:warning:main.pair.func1"},
		{name: "two closures swapped",
			edit: []string{"return func() string { return \"first \" + a }, func() string { return \"second \" + b }",
				"return func() string { return \"second \" + b }, func() string { return \"first \" + a }"},
			changed: "main.pair"},
		{name: "a goroutine's function",
			edit:    []string{"\"background\"", "\"foreground\""},
			changed: "main.main.func1"},
		{name: "an inlined function",
			edit:     []string{"return 2 * n", "return 3 * n"},
			changed:  "main.useDouble",
			findings: "no-change:info:main.double"},
		{name: "a function that nothing uses",
			edit:     []string{"func unused() int { return 1 }", "func unused() int { return 2 }"},
			findings: "no-change:warning: no-change:warning:main.unused"},
		{name: "a new function that nothing uses",
			edit:     []string{"func unused() int", "func fresh() {}\n\nfunc unused() int"},
			findings: "no-change:warning: no-change:info:main.fresh"},
		{name: "a variable's name in a function",
			edit:     []string{"m = v\n", "w := v; m = w\n"},
			findings: "no-change:warning: no-change:info:main.largest"},
		{name: "a function that never returns",
			edit:     []string{"println(<-work)", "println(<-work + 1)"},
			changed:  "main.worker",
			findings: "never-returns:warning:main.worker"},
		{name: "a function that is a loop",
			edit:     []string{"println(n)", "println(n + 1)"},
			changed:  "main.reader",
			findings: "never-returns:warning:main.reader"},
		{name: "a function that is no longer inlined",
			edit:     []string{"return len(s), nil", "for range s { defer println(s) }; return len(s), nil"},
			changed:  "main.main",
			added:    "main.nameless main.nameless.deferwrap1",
			findings: "never-returns:warning:main.main"},
		{name: "a generic function",
			edit:    []string{"if v > m {", "if v >= m {"},
			changed: "main.largest[go.shape.int] main.largest[go.shape.string]"},
		{name: "a generic method",
			edit:    []string{"func (b *box[T]) get() T { return b.v }", "func (b *box[T]) get() T { counter++; return b.v }"},
			changed: "main.(*box[go.shape.string]).get"},
		{name: "what a generic method's dictionary holds",
			edit:     []string{"func (b *box[T]) get() T { return b.v }", "func (b *box[T]) get() T { calls(b.v); return b.v }"},
			changed:  "main.main",
			added:    "main.(*box[go.shape.string]).get",
			lost:     "main.main>main.(*box[go.shape.string]).get",
			findings: "generic-dictionary-changed:warning:main.(*box[go.shape.string]).get never-returns:warning:main.main"},
		{name: "a case in a type switch",
			edit:    []string{"case string:\n\t\treturn v", "case string:\n\t\treturn v\n\tcase shape:\n\t\treturn \"shape\""},
			changed: "main.classify"},
		{name: "one more type switch",
			edit:    []string{"func calls(v any) any { return v }", "func calls(v any) any { switch v.(type) { case error: return 1; case shape: return 2 }; return v }"},
			changed: "main.calls"},
		{name: "a constant",
			edit:    []string{"limit = 10", "limit = 11"},
			changed: "main.below"},
		{name: "a struct's field",
			edit:     []string{"side int\n", "side int\n\textra int\n"},
			changed:  "main.main",
			findings: "type-layout-changed:error:main.square never-returns:warning:main.main"},
		{name: "a struct's tag",
			edit:     []string{"json:\"name\"", "json:\"title\""},
			findings: "no-change:warning: type-layout-changed:warning:main.square"},
		{name: "a new method",
			edit:     []string{"type box", "//go:noinline\nfunc (s *square) grow() { s.side++ }\n\ntype box", "counter++", "counter++; (&square{}).grow()"},
			changed:  "main.greet",
			added:    "main.(*square).grow",
			findings: "method-set-changed:warning:main.square"},
		{name: "fields that change places",
			edit:     []string{"type span struct{ from, to int }", "type span struct{ to, from int }"},
			changed:  "main.widest",
			findings: "type-layout-changed:error:main.span"},
		{name: "a new method of an interface",
			edit: []string{"type shape interface{ area() int }", "type shape interface{ area() int; aside() int }",
				"n += s.area()", "n += s.area() + s.aside()",
				"type box[", "func (s *square) aside() int { return s.side }\n\ntype box["},
			changed: "main.total", added: "main.(*square).aside",
			findings: "method-set-changed:error:main.shape method-set-changed:warning:main.square"},
		{name: "a method's signature",
			edit:     []string{"area() int }", "area() int32 }", "n += s.area()", "n += int(s.area())", "area() int { return s.side * s.side }", "area() int32 { return int32(s.side * s.side) }"},
			changed:  "main.total",
			added:    "main.(*square).area",
			findings: "method-set-changed:error:main.shape method-set-changed:error:main.square signature-changed:warning:main.(*square).area"},
		{name: "a variable's type",
			edit:     []string{"var counter int", "var counter int32"},
			changed:  "main.greet",
			findings: "global-changed:error:main.counter init-changed:warning:main.init.0"},
		{name: "a variable's initial value",
			edit:     []string{"\"middle\"", "\"medium\""},
			findings: "no-change:warning: initial-value-changed:warning:main.limits"},
		{name: "an init function",
			edit:     []string{"counter = 1 }", "counter = 2 }"},
			findings: "init-changed:error:main.init.0"},
		{name: "a new init function",
			edit:     []string{"func main()", "func init() { counter = 3 }\n\nfunc main()"},
			added:    "main.init.1",
			findings: "init-changed:error:main.init.1"},
		{name: "a new variable that is initialised at run time",
			edit:    []string{"var counter", "var extra = sub.Clock()\nvar counter", "counter++", "counter += int(extra)"},
			changed: "main.greet"},
		{name: "another value that is computed at run time",
			edit:     []string{"sub.Clock()\n", "sub.Clock() + 1\n"},
			findings: "no-change:warning: initial-value-changed:warning:main.started"},
		{name: "a new variable without a name",
			edit:     []string{"var counter", "var _ = sub.Clock()\nvar counter"},
			findings: "no-change:warning: init-changed:warning:main._"},
		{name: "a check that a type has an interface's methods",
			edit:     []string{"var counter", "var _ shape = (*square)(nil)\nvar counter"},
			findings: "no-change:warning:"},
		{name: "an init function that is gone",
			edit:     []string{"func init() { counter = 1 }", ""},
			removed:  "main.init.0",
			findings: "no-change:warning: init-changed:warning:main.init.0"},
		{name: "a new init function before the old one",
			edit:     []string{"func init() { counter = 1 }", "func init() { counter = 3 }\n\nfunc init() { counter = 1 }"},
			added:    "main.init.1",
			findings: "init-changed:error:main.init.0"},
		{name: "a new variable",
			edit:    []string{"var counter", "var extra = []int{1, 2}\nvar counter", "counter++", "counter += extra[0]"},
			changed: "main.greet"},
		{name: "a new type",
			edit: []string{"var counter", "type circle struct{ r int }\nfunc (c *circle) area() int { return 3 * c.r }\nvar counter",
				"counter++", "counter += calls(&circle{2}).(shape).area()"},
			changed: "main.greet",
			added:   "main.(*circle).area"},
		{name: "a signature",
			edit:     []string{"func below(n int) bool", "func below(n uint) bool", "below(a(2))", "below(uint(a(2)))"},
			changed:  "main.main",
			added:    "main.below",
			lost:     "main.main>main.below",
			findings: "signature-changed:warning:main.below never-returns:warning:main.main"},
	}
	for _, c := range cases {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			files := edit(t, c.edit...)
			opt := onlyMain
			opt.Edited = []string{"main"}
			opt.Source = func(pkg string) *source.Edit {
				was, err := os.ReadFile("testdata/sample/main.go")
				if err != nil {
					t.Fatal(err)
				}
				e, err := source.Compare([]source.File{{Path: "/src/main.go", Was: was, Is: []byte(files["main.go"])}})
				if err != nil {
					t.Fatal(err)
				}
				return e
			}
			d, err := Compare(sampleBase(t), sample.capture(t, files), opt)
			if err != nil {
				t.Fatal(err)
			}
			expect(t, "changed", changed(d), c.changed)
			expect(t, "added", inMain(d.new, d.Added), c.added)
			expect(t, "removed", inMain(d.base, d.Removed), c.removed)
			expect(t, "lost", lost(d), c.lost)
			var findings []string
			for _, f := range d.Findings {
				findings = append(findings, fmt.Sprintf("%s:%s:%s", f.Code, f.Severity, f.Function))
				if f.Message == "" || f.Advice == "" || f.Function != "" && !strings.Contains(f.Source, "main.go:") {
					t.Errorf("a finding without a message, advice or source: %+v", f)
				}
			}
			expect(t, "findings", strings.Join(findings, " "), c.findings)
			for _, x := range d.Changed {
				if x.Why == "" {
					t.Errorf("no reason why %s changed", d.new.Symbols[x.New].Name)
				}
			}
		})
	}
}

// onlyMain is what cmd/go says after an edit of package main.
var onlyMain = Options{Differs: func(pkg string) bool { return pkg == "main" }}

func expect(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// changed lists new<-old, or just the name if it is the same.
func changed(d *Diff) string {
	var names []string
	for _, c := range d.Changed {
		name, old := d.new.Symbols[c.New].Name, d.base.Symbols[c.Base].Name
		if old != name {
			name += "<-" + old
		}
		names = append(names, name)
	}
	return strings.Join(names, " ")
}

// lost lists code with the changed function that it goes with.
func lost(d *Diff) string {
	var names []string
	for in, fns := range d.Lost {
		for _, fn := range fns {
			names = append(names, d.base.Symbols[in].Name+">"+d.base.Symbols[fn].Name)
		}
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

func inMain(o *Object, fns []int) string {
	var names []string
	for _, fn := range fns {
		if name := o.Symbols[fn].Name; PackageOf(name) == "main" {
			names = append(names, name)
		}
	}
	return strings.Join(names, " ")
}

// server is a program of the size that servers have.
var server = program{dir: "testdata/server"}

var serverBase = cached(func(t testing.TB) *Object { return server.capture(t, nil) })

func serverEdit(t testing.TB) map[string]string {
	return editFile(t, server, "main.go", `"request"`, `"request of the patched server"`, "count++", "count += len(r.Host)")
}

// String constants are packed without bounds, and a new one moves all others.
func TestCompareIsNotMisledByStringsThatMove(t *testing.T) {
	t.Parallel()
	d, err := Compare(serverBase(t), server.capture(t, serverEdit(t)), Options{})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "changed", changed(d), "main.respond")
	if len(d.Added)+len(d.Removed)+len(d.Findings) != 0 {
		t.Errorf("added %d, removed %d, findings %v", len(d.Added), len(d.Removed), d.Findings)
	}
}

func TestCompareOfOnePackageLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	files := editFile(t, sample, "sub/sub.go", "text of sub", "text of SUB", "Unix()", "UnixMilli()")
	d, err := Compare(sampleBase(t), sample.capture(t, files), onlyMain)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "changed in main", changed(d), "")
	d, err = Compare(sampleBase(t), sample.capture(t, files), Options{Differs: func(pkg string) bool { return pkg == "example.com/sample/sub" }})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "changed in sub", changed(d), "example.com/sample/sub.Clock example.com/sample/sub.Text")
}

func TestCompareOfTheSameArchives(t *testing.T) {
	t.Parallel()
	d, err := Compare(sampleBase(t), sampleBase(t), Options{Differs: func(string) bool { return false }})
	if err != nil || len(d.Findings) != 1 || d.Findings[0].Code != finding.NoChange || !strings.Contains(d.Findings[0].Message, "compiled packages are the same") {
		t.Errorf("%+v, %v", d, err)
	}
}

// The functions of a package that is drawn in are new, with all they need.
func TestCompareFindsWhatAnImportDrawsIn(t *testing.T) {
	t.Parallel()
	o := sample.capture(t, edit(t, `"os"`, "\"os\"\n\t\"strings\"", "counter++", "counter++; name = strings.ToTitle(name)"))
	d, err := Compare(sampleBase(t), o, onlyMain)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "changed", changed(d), "main.greet")
	added := map[string]bool{}
	for _, fn := range d.Added {
		added[o.Symbols[fn].Name] = true
		if _, ok := d.Old(fn); ok {
			t.Errorf("%s is new and has an old function", o.Symbols[fn].Name)
		}
	}
	if !added["strings.Map"] || !added["unicode.ToTitle"] {
		t.Errorf("added: %v", added)
	}
}

func TestOld(t *testing.T) {
	t.Parallel()
	o := sample.capture(t, edit(t, "func() string { return \"first \" + a }", "nil", "second ", "zweitens ",
		"func below(n int) bool", "func below(n uint) bool", "below(a(2))", "below(uint(a(2)))"))
	d, err := Compare(sampleBase(t), o, onlyMain)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"main.greet":      "main.greet",
		"main.pair.func1": "main.pair.func2", // the closure before it is gone
		"main.below":      "",                // callers pass something else
		"main.main.func1": "main.main.func1",
		"runtime.main":    "runtime.main",
	} {
		fn, ok := o.Lookup(name)
		if !ok {
			t.Errorf("no %s", name)
			continue
		}
		got := ""
		if old, ok := d.Old(fn); ok {
			got = d.base.Symbols[old].Name
		}
		expect(t, name, got, want)
	}
}

func TestCompareRefusesObjectsWithoutDWARF(t *testing.T) {
	t.Parallel()
	bare := program{dir: sample.dir, flags: []string{"-ldflags=-w"}}
	o := bare.capture(t, nil)
	_, err := Compare(o, o, onlyMain)
	if finding.CodeOf(err) != finding.UnsupportedBuild || !strings.Contains(err.Error(), "no debugging information") || !strings.Contains(err.Error(), "-ldflags=-w") {
		t.Errorf("got %v", err)
	}
}

func TestSourceIsTheFunctionsLine(t *testing.T) {
	t.Parallel()
	o := sampleBase(t)
	fn, _ := o.Lookup("main.greet")
	file, line, err := o.Source(fn)
	if err != nil || filepath.Base(file) != "main.go" {
		t.Fatalf("%s:%d, %v", file, line, err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "the line", strings.Split(string(data), "\n")[line-1], "func greet(name string) string {")
}

func BenchmarkOpen(b *testing.B) {
	path := serverBase(b).Path
	for b.Loop() {
		o, err := Open(path)
		if err != nil {
			b.Fatal(err)
		}
		_ = o.Close()
	}
}

// BenchmarkCompare includes reading the DWARF, as Compare does once per object.
func BenchmarkCompare(b *testing.B) {
	base, new := serverBase(b).Path, server.capture(b, serverEdit(b)).Path
	for b.Loop() {
		b.StopTimer()
		x, errx := Open(base)
		y, erry := Open(new)
		if err := errors.Join(errx, erry); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if d, err := Compare(x, y, onlyMain); err != nil || len(d.Changed) != 1 {
			b.Fatal(d, err)
		}
		_, _ = x.Close(), y.Close()
	}
}

func BenchmarkMatchTarget(b *testing.B) {
	base, x := serverBase(b), openExe(b, server.build(b, nil))
	for b.Loop() {
		if _, err := MatchTarget(base, x); err != nil {
			b.Fatal(err)
		}
	}
}
