package object

import (
	"errors"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher/exe"
	"github.com/darn-dev/darn/patcher/finding"
)

func openExe(t testing.TB, path string) *exe.Executable {
	t.Helper()
	x, err := exe.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = x.Close() })
	return x
}

func TestMatchTargetFindsEverySymbol(t *testing.T) {
	for _, v := range []struct {
		name string
		program
		gcc bool // the executable's link needs it
	}{
		{name: "stock"},
		{name: "unoptimised", program: program{flags: []string{"-gcflags=all=-N -l"}}},
		{name: "position independent", program: program{flags: []string{"-buildmode=pie"}}},
		{name: "without cgo", program: program{env: []string{"CGO_ENABLED=0"}}},
		{name: "external link", program: program{flags: []string{"-ldflags=-linkmode=external"}}, gcc: true},
		{name: "external link, position independent", program: program{flags: []string{"-ldflags=-linkmode=external", "-buildmode=pie"}}, gcc: true},
	} {
		t.Run(strings.ReplaceAll(v.name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath("gcc"); v.gcc && err != nil {
				t.Skip("no gcc")
			}
			v.dir = "testdata/sample"
			base, x := v.capture(t, nil), openExe(t, v.build(t, nil))
			m, err := MatchTarget(base, x)
			if err != nil {
				t.Fatal(err)
			}
			if m.Functions+len(m.Missing) != len(base.Functions) || m.Functions < 1000 || m.Data < 200 || m.Checks < 1000 {
				t.Errorf("compared %d functions of %d (%d missing), %d data, %d addresses", m.Functions, len(base.Functions), len(m.Missing), m.Data, m.Checks)
			}
			for _, fn := range m.Missing {
				if !glue(base.Symbols[fn].Name) {
					t.Errorf("%s is missing", base.Symbols[fn].Name)
				}
			}
			for i, s := range base.Symbols {
				addr, ok := m.Addr(i)
				if target, unique, _ := x.Symbol(s.Name); ok && unique && len(base.Named(s.Name)) == 1 && addr != target.Addr {
					t.Errorf("%s is said to be at %#x, it is at %#x", s.Name, addr, target.Addr)
				}
				if want, unique, _ := x.Symbol(s.Name); !ok && unique && s.Section != 0 && s.Size > 0 && s.Type == want.Type && s.Name != "runtime.tlsg" {
					t.Errorf("%s is not found", s.Name)
				}
			}
		})
	}
}

func TestMatchTargetPlacesTypes(t *testing.T) {
	t.Parallel()
	base, x := sampleBase(t), openExe(t, sample.build(t, nil))
	m, err := MatchTarget(base, x)
	if err != nil {
		t.Fatal(err)
	}
	types := 0
	for _, fn := range base.Functions {
		if base.Symbols[fn].Name == "runtime.stkobjinit" {
			continue // refers to the middle of types
		}
		refs, _ := base.Refs(fn)
		for _, r := range refs {
			if !isTypes(base.Symbols[r.Symbol].Name) {
				continue
			}
			typ, err := base.TypeAt(r.Target)
			if err != nil || typ.String == "" {
				continue // within one
			}
			want := base.bytesAt(r.Target, typeKind+1)
			addr, ok := m.AddrAt(r.Target)
			got := make([]byte, len(want))
			if err := x.ReadAt(got, addr); !ok || err != nil || string(got) != string(want) {
				t.Fatalf("%s: type %q, %s+%#x, is not at %#x (%v, %v): %x, not %x", base.Symbols[fn].Name, typ.String, base.Symbols[r.Symbol].Name, r.Target.Offset, addr, ok, err, got, want)
			}
			types++
		}
	}
	if types < 100 {
		t.Errorf("only %d references to types", types)
	}
}

func TestMatchTargetNamesWhatDiffers(t *testing.T) {
	for _, c := range []struct {
		name  string
		edit  []string
		names string // what the refusal names, all of it
		text  string // part of the message
	}{
		{"code", []string{"return s.side * s.side", "return s.side * s.side * 2"}, "main.(*square).area", "its code differs"},
		{"two functions", []string{"return 2 * n", "return 3 * n", "limit = 10", "limit = 11"}, "main.below main.useDouble", "its code differs"},
		{"a string", []string{"hello, dear ", "howdy, dear "}, "go:string.*", `string constants differ, from "hello, dear " on`},
		{"an initial value", []string{"\"low\", \"middle\", \"high\"", "\"low\", \"middle\""}, "go:string.* main.limits", "its initial value differs"},
		{"a missing function", []string{"counter++", "counter++; func() { defer println(name); counter++ }()"}, "main.greet main.greet.func1 main.greet.func1.deferwrap1", "only in the executable"},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			x := openExe(t, sample.build(t, edit(t, c.edit...)))
			_, err := MatchTarget(sampleBase(t), x)
			var r *finding.Refusal
			if !errors.As(err, &r) || finding.CodeOf(err) != finding.TextMismatch {
				t.Fatalf("got %v", err)
			}
			t.Log(err)
			names := map[string]bool{}
			for _, f := range r.Findings {
				names[f.Function] = true
			}
			for _, want := range strings.Fields(c.names) {
				if !names[want] {
					t.Errorf("%s is not named", want)
				}
			}
			if len(names) != len(strings.Fields(c.names)) {
				t.Errorf("named are %v", slices.Sorted(maps.Keys(names)))
			}
			if !strings.Contains(err.Error(), c.text) {
				t.Errorf("the refusal does not say %q", c.text)
			}
		})
	}
}

func TestMatchTargetRefusesOtherFlags(t *testing.T) {
	t.Parallel()
	other := program{dir: sample.dir, flags: []string{"-gcflags=all=-N -l"}}
	_, err := MatchTarget(sampleBase(t), openExe(t, other.build(t, nil)))
	if finding.CodeOf(err) != finding.TextMismatch || !strings.Contains(err.Error(), "more differ") || !strings.Contains(err.Error(), "--base") {
		t.Errorf("got %v", err)
	}
}
