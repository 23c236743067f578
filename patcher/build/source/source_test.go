package source

import (
	"fmt"
	"strings"
	"testing"
)

const was = `package p

import "os"

type T struct{ n int }

func (t *T) M() int { return t.n }

func (t T) N() int { return t.n }

func F[E any](e E) E { return e }

func loop() {
	for {
		select {}
	}
}

func init() { a = 1 }

var a, b = two()
var c = os.Args

func two() (int, int) { return 1, 2 }
`

func compare(t *testing.T, oldnew ...string) *Edit {
	t.Helper()
	is := was
	for i := 0; i < len(oldnew); i += 2 {
		if !strings.Contains(is, oldnew[i]) {
			t.Fatalf("the source has no %q", oldnew[i])
		}
		is = strings.Replace(is, oldnew[i], oldnew[i+1], 1)
	}
	e, err := Compare([]File{{Path: "p.go", Was: []byte(was), Is: []byte(is)}})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestCompareFindsDeclarationsThatDiffer(t *testing.T) {
	for name, x := range map[string]struct {
		edit []string
		want string
	}{
		"nothing":               {nil, ""},
		"a comment":             {[]string{"func two", "// two\nfunc two", "return t.n }", "return /* n */ t.n }"}, ""},
		"blanks":                {[]string{"{ return t.n }", "{\n\n\treturn t.n\n}", "[E any](e E)", "[E any](\n\te E,\n)"}, ""},
		"a method":              {[]string{"return t.n }", "return -t.n }"}, "function (*T).M:7"},
		"a receiver":            {[]string{"(t T) N", "(t *T) N"}, "function (*T).N:9 new function T.N:9 gone"},
		"a generic function":    {[]string{"return e }", "_ = e; return e }"}, "function F:11"},
		"a directive":           {[]string{"func two", "//go:noinline\nfunc two"}, "function two:25"},
		"a new function":        {[]string{"func two", "func one() {}\n\nfunc two"}, "function one:24 new"},
		"a function that left":  {[]string{"func loop() {\n\tfor {\n\t\tselect {}\n\t}\n}\n", ""}, "function loop:13 gone"},
		"a value":               {[]string{"= os.Args", "= os.Args[1:]"}, "value c:22"},
		"values of one call":    {[]string{"= two()", "= 3, 4"}, "value a:21 value b:21"},
		"a new variable":        {[]string{"var c", "var d = 4\nvar c"}, "variable d:22"},
		"an effect":             {[]string{"var c", "var _ = os.Getpid()\nvar c"}, "effect _:22"},
		"no effect":             {[]string{"var c", "var _ = (*T)(nil)\nvar _ = 4\nvar c"}, ""},
		"a func init":           {[]string{"a = 1", "a = 2"}, "init init.0:19"},
		"a new func init":       {[]string{"func init() { a = 1 }", "func init() { a = 1 }\n\nfunc init() { b = 1 }"}, "init init.1:21"},
		"a func init that left": {[]string{"func init() { a = 1 }", ""}, "gone init.0:19"},
	} {
		t.Run(name, func(t *testing.T) {
			e := compare(t, x.edit...)
			var got []string
			add := func(kind string, places []Place) {
				for _, p := range places {
					got = append(got, fmt.Sprintf("%s %s:%d", kind, p.Name, p.Line))
				}
			}
			for _, f := range e.Functions {
				add("function", []Place{f.Place})
				if f.New {
					got[len(got)-1] += " new"
				} else if f.Gone {
					got[len(got)-1] += " gone"
				}
			}
			add("value", e.Values)
			add("variable", e.Variables)
			add("effect", e.Effects)
			add("init", e.Inits)
			add("gone", e.GoneInits)
			if got := strings.Join(got, " "); got != x.want {
				t.Errorf("got %q, want %q", got, x.want)
			}
		})
	}
}

func TestAFileThatIsNewOrGoneIsCompared(t *testing.T) {
	e, err := Compare([]File{{Path: "a.go", Was: []byte("package p\nfunc moved() {}\nfunc gone() {}\n")},
		{Path: "b.go", Is: []byte("package p\n\nfunc fresh() {}\nfunc moved() {}\n")}})
	if err != nil {
		t.Fatal(err)
	}
	if len(e.Functions) != 2 || e.Functions[0].Name != "gone" || !e.Functions[0].Gone || e.Functions[1].Name != "fresh" || !e.Functions[1].New {
		t.Errorf("%+v", e.Functions)
	}
	if got := e.Find("moved").String(); got != "b.go:4" {
		t.Errorf("moved is at %s", got)
	}
}

func TestEndlessLoopsAreSeen(t *testing.T) {
	if e := compare(t); !e.Endless("loop") || e.Endless("two") {
		t.Errorf("loop %v, two %v", e.Endless("loop"), e.Endless("two"))
	}
}

func TestSourceThatDoesNotParseIsAnError(t *testing.T) {
	if _, err := Compare([]File{{Path: "a.go", Is: []byte("package p\nfunc (")}}); err == nil || !strings.Contains(err.Error(), "a.go:2") {
		t.Error(err)
	}
}
