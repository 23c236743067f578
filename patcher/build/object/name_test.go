package object

import "testing"

func TestPackageOf(t *testing.T) {
	for name, want := range map[string]string{
		"main.main":                            "main",
		"net/http.(*Server).Serve":             "net/http",
		"net/http.(*Server).Serve.func1":       "net/http",
		"gopkg.in/yaml%2ev3.Marshal":           "gopkg.in/yaml.v3",
		"example.com/x.y/z.F[go.shape.int]":    "example.com/x.y/z",
		"slices.SortFunc[example.com/a/b.T,x]": "slices",
		"a/b.(*T[c/d.U]).M":                    "a/b",
		"main..stmp_1":                         "main",
		"main.init.0.func1":                    "main",
		"type:.eq.main.T":                      "",
		"go:itab.*main.T,main.I":               "",
		"go:struct { main.T }.M":               "",
		"memeqbody":                            "",
		"":                                     "",
	} {
		if got := PackageOf(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestClosureName(t *testing.T) {
	for _, c := range []struct {
		name, outer, kind string
		number            int
	}{
		{"main.f.func1", "main.f", ".func", 1},
		{"main.f.func12.3", "main.f.func12", ".func", 3},
		{"main.(*T).M.func2", "main.(*T).M", ".func", 2},
		{"main.F[go.shape.int].func1", "main.F[go.shape.int]", ".func", 1},
		{"main.f.gowrap2", "main.f", ".gowrap", 2},
		{"main.f.func1.deferwrap1", "main.f.func1", ".deferwrap", 1},
		{"main.f-range1", "main.f", "-range", 1},
		{"main.f.g.func4", "main.f.g", ".func", 4}, // g was inlined into f
		{"main.init.0.func1", "main.init.0", ".func", 1},
		{name: "main.init.0"},
		{name: "main.map.init.1"},
		{name: "main.sha256"},
		{name: "type:.eq.main.T.2"},
		{name: "main.T.M"},
		{name: ""},
	} {
		outer, kind, number, ok := closureName(c.name)
		if ok != (c.kind != "") || outer != c.outer || kind != c.kind || number != c.number {
			t.Errorf("%s: %q %q %d %v", c.name, outer, kind, number, ok)
		}
	}
}

func TestIsInit(t *testing.T) {
	for name, want := range map[string]bool{
		"main.init": true, "main.init.3": true, "a/b%2ec.map.init.0": true, "a/b.init.10": true,
		"main.initialise": false, "main.init.0.func1": false, "main.(*T).init": false, "main.init.x": false, "memeqbody": false,
	} {
		if got := isInit(name); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestNamedByContent(t *testing.T) {
	for name, want := range map[string]bool{
		"main..stmp_4": true, "main..interfaceSwitch.0": true, "main..typeAssert.1": true, "main..dict.F[int]": true,
		"main.f.jump3": true, "type:.eq.main.T": true, "type:.hash.main.T": true,
		"main..inittask": false, "main.jump3x": false, "main.table": false, "go:itab.*main.T,main.I": false,
	} {
		if got := namedByContent(name); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestSameNames(t *testing.T) {
	for _, x := range []struct {
		b, n string
		want bool
	}{
		{"main.f", "main.f", true},
		{"main.f", "main.g", false},
		{"main._cgo_0123456789ab_Cfunc_f", "main._cgo_ba9876543210_Cfunc_f", true},
		{"_cgoexp_0123456789ab_f", "_cgoexp_ba9876543210_f", true},
		{"main._cgo_0123456789ab_Cfunc_f", "main._cgo_ba9876543210_Cfunc_g", false},
		{"main._cgo_0123456789ab_Cfunc_f", "other._cgo_0123456789ab_Cfunc_f", false},
	} {
		if sameNames(x.b, x.n) != x.want {
			t.Errorf("%s and %s mean the same: %v", x.b, x.n, !x.want)
		}
	}
}
