package build

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher/build/emit"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/module"
)

const initSample = `package p

func a() int { return 1 }

func b(
	n int,
) (r int) {
	f := func() { r++ }; defer func() { r-- }()
	f()
	return n
}

func c()
`

func TestInsertInitMovesNoLine(t *testing.T) {
	pkg, got, err := insertInit("p.go", []byte(initSample), []emit.Function{{Symbol: "p.a", File: "p.go", Line: 3}, {Symbol: "p.b", File: "p.go", Line: 5},
		{Symbol: "p.b.func1", File: "p.go", Line: 8}, {Symbol: "p.b.func2", File: "p.go", Line: 8}})
	if err != nil || pkg != "p" {
		t.Fatal(pkg, err)
	}
	want := strings.NewReplacer("int { return 1", "int {"+initCall+" return 1", "(r int) {", "(r int) {"+initCall,
		"func() { r++", "func() {"+initCall+" r++", "func() { r--", "func() {"+initCall+" r--").Replace(initSample)
	if string(got) != want {
		t.Errorf("got\n%s\nwanted\n%s", got, want)
	}
	if strings.Count(string(got), "\n") != strings.Count(initSample, "\n") {
		t.Error("lines moved")
	}
}

func TestInsertInitNeedsABody(t *testing.T) {
	for _, line := range []int{4, 14} {
		_, _, err := insertInit("p.go", []byte(initSample), []emit.Function{{Symbol: "p.c", File: "p.go", Line: line}})
		if err == nil || !strings.Contains(err.Error(), "there is no source of p.c") {
			t.Errorf("line %d: %v", line, err)
		}
	}
}

func TestAFunctionWithoutSourceCannotInitialise(t *testing.T) {
	need := &emit.InitNeeded{Packages: []string{"encoding/json"}, Functions: []emit.Function{{Symbol: "p.c", File: filepath.Join(t.TempDir(), "gone.go"), Line: 1}}}
	_, err := initOverlay(need, nil, &sources{}, "p", t.TempDir())
	if finding.CodeOf(err) != finding.InitChanged || !strings.Contains(err.Error(), "the patch brings encoding/json") {
		t.Fatal(err)
	}
}

// user is a program that the file of initSource is added to.
const user = `package main

import (
	"context"
	"fmt"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"
)

// labels returns those of the goroutine, as a profile shows them.
func labels() string {
	var b strings.Builder
	pprof.Lookup("goroutine").WriteTo(&b, 1)
	at := strings.Index(b.String(), "main.labels")
	_, list, _ := strings.Cut(b.String()[:at], "# labels: ")
	list, _, _ = strings.Cut(list, "\n")
	return list
}

func main() {
	defer func() { fmt.Print(labels()) }()
	pprof.SetGoroutineLabels(pprof.WithLabels(context.Background(), pprof.Labels("who", "me")))
	var runs atomic.Int32
	var task int
	darnInitTasks = []unsafe.Pointer{unsafe.Pointer(&task)}
	darnInitRun = func(unsafe.Pointer) {
		darnInit() // as a patched function does that an initial value calls
		var all sync.WaitGroup
		all.Add(1)
		go func() {
			defer func() { go func() { darnInit(); all.Done() }() }()
			darnInit()
		}()
		all.Wait()
		fmt.Print(labels(), " ")
		if runs.Add(1) == PANIC {
			panic("first")
		}
	}
	call := func() (r any) {
		defer func() { r = recover() }()
		darnInit()
		return nil
	}
	var all sync.WaitGroup
	var results [64]any
	for i := range results {
		all.Go(func() { results[i] = call() })
	}
	all.Wait()
	count := map[any]int{}
	for _, r := range results {
		count[fmt.Sprint(r)]++
	}
	fmt.Println(count, runs.Load())
}
`

func TestInitialisationIsDoneOnceAndAPanicInItIsNotForgotten(t *testing.T) {
	for panics, want := range map[string]string{
		"0": `{"who":"me"} map[<nil>:64] 1` + "\n" + `{"who":"me"}`,
		"1": `{"who":"me"} map[darn: the patch fix can't be used, deactivate it: initialising it panicked: first:64] 1` + "\n" + `{"who":"me"}`,
	} {
		dir := t.TempDir()
		write(t, dir, "go.mod", "module user\n\ngo 1.25\n", "main.go", strings.ReplaceAll(user, "PANIC", panics), "init.go", fmt.Sprintf(initSource, "main", "fix"))
		if got := run(t, dir, "go", "run", "."); got != want {
			t.Errorf("it says %q, want %q", got, want)
		}
	}
}

func TestNewPackagesAreInitialisedByThePatch(t *testing.T) {
	isolate(t)
	b := buildServer(t)
	path := filepath.Join(b.dir, "greet/greet.go")
	edit(t, path, `import _ "embed"`, `import (
	_ "embed"
	"net/netip"
	"text/template"
)`)
	edit(t, path, `name = "world"`, `name = template.HTMLEscapeString(netip.IPv6LinkLocalAllNodes().String())`)
	r, err := Build(t.Context(), b.options(t))
	replaces(t, r, err, greeting)
	m, err := module.Open(r.Path)
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Manifest.Go.InitPackages; !slices.Contains(got, "text/template") {
		t.Errorf("the patch initialises %v", got)
	}
	for _, f := range m.Manifest.Functions {
		if !strings.HasSuffix(f.Source, "greet/greet.go:16") {
			t.Errorf("%s is at %s", f.Symbol, f.Source)
		}
	}
}

func TestAnInitialValueThatWaitsForOthersIsNamed(t *testing.T) {
	isolate(t)
	b := buildServer(t)
	path := filepath.Join(b.dir, "greet/greet.go")
	edit(t, path, "// Greeting greets", "var asked = make(chan string)\n\nvar who = VALUE\n\n// Greeting greets")
	edit(t, path, `name = "world"`, `name = who`)
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		value    string
		severity finding.Severity // "" if nothing is said
		words    string
	}{
		"for what it has not started": {`<-asked`, finding.Error, "the initial value of a new variable waits, in example.com/server/greet.darnInitVar0, and starts no goroutine: " +
			"what it waits for may call what the patch replaces, and wait for the patch in turn: the program would hang"},
		"for what it may have started": {`func() string { c := make(chan string); go func() { c <- "me" }(); return <-c }()`, finding.Warning,
			"for other goroutines: the program hangs if one of them calls what the patch replaces and is not started by what waits"},
		"for who receives":                   {`func() string { asked <- "me"; return "" }()`, finding.Warning, "waits, in example.com/server/greet."},
		"for nobody, but it makes what does": {`func(c chan string) string { f = func() string { return <-c }; return "me" }(asked); var f func() string`, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(path, []byte(strings.Replace(string(source), "VALUE", c.value, 1)), 0o666); err != nil {
				t.Fatal(err)
			}
			r, err := Build(t.Context(), b.options(t))
			var found []finding.Finding
			if refusal := finding.As(err); refusal != nil {
				found = refusal.Findings
			} else if err != nil {
				t.Fatal(err)
			} else {
				found = r.Findings
			}
			found = slices.DeleteFunc(found, func(f finding.Finding) bool { return f.Code != finding.InitChanged })
			if c.severity == "" {
				if len(found) > 0 {
					t.Errorf("it finds %v", found)
				}
				return
			}
			if len(found) != 1 || found[0].Severity != c.severity || !strings.Contains(found[0].Message, c.words) || found[0].Source != path+":11" {
				t.Errorf("it finds %v, want %s", found, c.words)
			}
		})
	}
}
