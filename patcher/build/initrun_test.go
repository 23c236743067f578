package build

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/module"
)

// user is a program that the file of initSource is added to. It does what Darn
// and the runtime do.
const user = `package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/pprof"
	"strings"
	"time"
	"unsafe"
)

// labels returns those of the goroutine, as a profile shows them, and whether it
// has the mark.
func labels() string {
	var b strings.Builder
	pprof.Lookup("goroutine").WriteTo(&b, 1)
	at := strings.Index(b.String(), "main.labels")
	_, list, _ := strings.Cut(b.String()[:at], "# labels: ")
	list, _, _ = strings.Cut(list, "\n")
	return fmt.Sprint(list, " ", uintptr(unsafe.Pointer(darnInitLabels())) == darnInitState.mark.Load())
}

type wordless struct{}

func (wordless) Error() string { panic("none") }

func main() {
	_, _, _ = errors.New, runtime.Goexit, darnInitStarter
	pprof.SetGoroutineLabels(pprof.WithLabels(context.Background(), pprof.Labels("who", "me")))
	darnInitState.mark.Store(1)
	var task, place uintptr
	darnInitState.hook, darnInitState.hooked = uintptr(unsafe.Pointer(&place)), 7
	REQUIRED
	darnInitTasks = []unsafe.Pointer{unsafe.Pointer(&task)}
	darnInitRun = func(unsafe.Pointer) {
		ended := make(chan string)
		go func() { ended <- labels() }()
		fmt.Print(labels(), " ", <-ended, " ")
		END
	}
	started := darnInitStart()
	for darnInitState.phase.Load() < 2 {
		time.Sleep(time.Millisecond)
	}
	fmt.Printf("%t %d %d %q %q %s", started, place, darnInitState.phase.Load(), darnInitAll(), darnInitWhy(), labels())
}
`

func TestInitialisationIsDoneOnceAndSaysWhyItFails(t *testing.T) {
	const marked = `{"who":"me"} true {"who":"me"} true true 7 `
	for name, x := range map[string]struct{ required, end, want string }{
		"done":                     {"", "", marked + `2 "" ""`},
		"a panic":                  {"", `panic("first")`, marked + `3 "it panicked: first" "it panicked: first"`},
		"an error":                 {"", `panic(errors.New("no file"))`, marked + `3 "it panicked: no file" "it panicked: no file"`},
		"a value":                  {"", `panic(4)`, marked + `3 "it panicked with a value that is no text" "it panicked with a value that is no text"`},
		"an error without words":   {"", `panic(wordless{})`, marked + `3 "it panicked, and so did what should say why" "it panicked, and so did what should say why"`},
		"the end of the goroutine": {"", "runtime.Goexit()", marked + `3 "it ended its goroutine (runtime.Goexit)" "it ended its goroutine (runtime.Goexit)"`},
		"one that it builds on": {`darnInitRequired = []func() string{func() string { return "" }, func() string { return "late" }}`, "",
			`true 7 3 "it panicked: what it builds on is not initialised: late" "it panicked: what it builds on is not initialised: late"`},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "go.mod", "module user\n\ngo 1.24\n", "init.go", fmt.Sprintf(initSource, "main"),
				"main.go", strings.NewReplacer("REQUIRED", x.required, "END", x.end).Replace(user))
			if got, want := run(t, dir, "go", "run", "."), x.want+` {"who":"me"} false`; got != want {
				t.Errorf("it says %s, want %s", got, want)
			}
		})
	}
}

func TestNewPackagesAreInitialisedByThePatch(t *testing.T) {
	for name, flags := range map[string][]string{"of a program": nil, "of a test": {"test"}} {
		t.Run(name, func(t *testing.T) {
			isolate(t)
			b := buildServer(t, flags...)
			path := filepath.Join(b.dir, "greet/greet.go")
			edit(t, path, `import _ "embed"`, `import (
	_ "embed"
	"regexp"
	"text/template"
)`)
			edit(t, path, `name = "world"`, `name = template.HTMLEscapeString(regexp.MustCompile(`+"`\\p{Greek}`"+`).String())`)
			r, err := Build(t.Context(), b.options(t))
			replaces(t, r, err, greeting)
			for _, f := range r.Findings {
				if f.Severity != finding.Info {
					t.Errorf("it warns: %v", f)
				}
			}
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
		})
	}
}
