package patcher_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher/finding"
)

// remember adds variables, a type with methods and an interface to the shop.
var remember = edit{
	"type article struct {", `var hits int
var last any
var visits []visit

type visit struct {
	Name string
	N    int
}

func (v visit) String() string { return "visit of " + v.Name }

type article struct {`,
	`	return fmt.Sprintf("hello %s", name)`, `	hits++
	last = visit{name, hits}
	visits = append(visits, visit{name, hits})
	return fmt.Sprintf("hello %s %d", name, hits)`,
}

// recall uses what remember has added.
var recall = slices.Concat(remember, edit{
	`return "a " + t.label()`, `v, ok := last.(visit)
	s, _ := last.(fmt.Stringer)
	return fmt.Sprint(v.Name, " ", v.N, " ", ok, " ", s, " ", hits, " ", visits)`,
})

func TestAPatchSharesWhatEarlierOnesAdded(t *testing.T) {
	s := newShop(t)
	first := s.module(t, "first", remember)
	second := s.module(t, "second", recall, first)
	target := s.start(t, "GOGC=1", "GODEBUG=clobberfree=1")
	before := snapshot(t, target.Pid())
	e, detach := attach(t, target)

	if _, _, err := e.Load(t.Context(), second); finding.CodeOf(err) != finding.NotLoaded || !strings.Contains(err.Error(), "the patch first (sha256") {
		t.Fatalf("the second without the first: %v", err)
	}
	if d := before.diff(snapshot(t, target.Pid())); d != "" {
		t.Fatalf("a refused load left something:\n%s", d)
	}

	a := load(t, e, first)
	activate(t, e, a)
	expect(t, target, "/greet?name=eve", "hello eve 1")
	b := load(t, e, second)
	activate(t, e, b)
	expect(t, target, "/gc", "collected")
	expect(t, target, "/describe", "eve 1 true visit of eve 1 [visit of eve]")
	expect(t, target, "/greet?name=bob", "hello bob 2")
	deactivate(t, e, b)
	expect(t, target, "/greet?name=kim", "hello kim 3")
	expect(t, target, "/describe", "a pen")
	activate(t, e, b)
	deactivate(t, e, a)
	expect(t, target, "/describe", "kim 3 true visit of kim 3 [visit of eve visit of bob visit of kim]")

	// It survives the Darn that loaded it.
	detach()
	e, detach = attach(t, target)
	if _, err := e.Unload(t.Context(), a.ID); finding.CodeOf(err) != finding.InUse || !strings.Contains(err.Error(), "patch 2 (second) shares variables or types that patch 1 added") {
		t.Errorf("unloading the first: %v", err)
	}
	deactivate(t, e, b)
	unload(t, e, b)
	unload(t, e, a)
	expect(t, target, "/greet?name=eve", "hello eve")
	detach()
	if d := before.diff(snapshot(t, target.Pid())); d != "" {
		t.Errorf("something stayed behind:\n%s", d)
	}
}

func TestWhatAnEarlierPatchAddedKeepsItsType(t *testing.T) {
	s := newShop(t)
	first := s.module(t, "first", remember)
	for name, c := range map[string]struct {
		change edit
		code   finding.Code
		words  string
	}{
		"a variable": {edit{"var hits int", "var hits int32", "visit{name, hits}", "visit{name, int(hits)}"}, finding.GlobalChanged,
			"the variable main.hits has another type than in the patch first, which added it"},
		"a type": {edit{"	N    int", "	N    int\n	Old  bool", "visit{name, hits}", "visit{name, hits, true}"}, finding.TypeLayoutChanged,
			"field Old was added, against the patch first that added it"},
	} {
		t.Run(name, func(t *testing.T) {
			e := slices.Clone(recall)
			for i := 0; i < len(c.change); i += 2 {
				for k := 1; k < len(e); k += 2 {
					e[k] = strings.ReplaceAll(e[k], c.change[i], c.change[i+1])
				}
			}
			_, err := s.build(t, "second", e, first)
			if finding.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.words) {
				t.Errorf("refused with %v, want %s: %s", err, c.code, c.words)
			}
		})
	}
}

// What is shared has its initial value even if it is the later patch's function
// that is called first, and is given it once.
func TestASharedVariableIsInitialisedOnce(t *testing.T) {
	s := newShop(t)
	stock := edit{"type article struct {", `var stock = map[string]int{"pen": count()}
var counted int

//go:noinline
func count() int { counted++; return 40 + counted }

type article struct {`,
		`	return fmt.Sprintf("hello %s", name)`, `	stock[name]++
	return fmt.Sprint("hello ", name, " ", counted, string(must(json.Marshal(stock))))`,
		`	"fmt"`, `	"encoding/json"
	"fmt"`,
		"func main() {", `func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

func main() {`}
	first := s.module(t, "first", stock)
	second := s.module(t, "second", slices.Concat(stock, edit{`return "a " + t.label()`,
		`var m map[string]any; err := json.Unmarshal(must(json.Marshal(stock)), &m); return fmt.Sprint(m, err, counted)`}), first)
	target := s.start(t, "GOGC=1")
	e, detach := attach(t, target)
	a, b := load(t, e, first), load(t, e, second)
	activate(t, e, b)
	expect(t, target, "/describe", "map[pen:41] <nil> 1")
	expect(t, target, "/greet?name=eve", `hello eve 1{"eve":1,"pen":41}`)
	activate(t, e, a)
	deactivate(t, e, b)
	expect(t, target, "/gc", "collected")
	expect(t, target, "/greet?name=eve", `hello eve 1{"eve":2,"pen":41}`)
	detach()
	target.MustLive()
}
