package finding_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const root = "../.."

// codes returns the codes by the names of their constants.
func codes(t *testing.T) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "finding.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if typ, ok := spec.Type.(*ast.Ident); ok && typ.Name == "Code" {
			code, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			found[spec.Names[0].Name] = code
		}
		return false
	})
	return found
}

// tests returns the source of the tests of a package.
func tests(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(data)
	}
	return all.String()
}

var row = regexp.MustCompile("(?m)^\\| <a id=\"[a-z-]+\"></a>`([a-z-]+)` \\| (.+) \\| (.+) \\| (.+) \\|$")

// The table in docs/refusals.md has every code, and names tests that exist and
// see it.
func TestTheTableOfRefusalsIsComplete(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join(root, "docs", "refusals.md"))
	if err != nil {
		t.Fatal(err)
	}
	missing := codes(t)
	if len(missing) < 20 {
		t.Fatalf("found the codes %v only", missing)
	}
	names := map[string]string{}
	for name, code := range missing {
		names[code] = name
	}
	for _, m := range row.FindAllStringSubmatch(string(doc), -1) {
		code, name := m[1], names[m[1]]
		if name == "" {
			t.Errorf("%s is no code, or is there twice", code)
			continue
		}
		delete(names, code)
		for shown := range strings.SplitSeq(m[4], ", ") {
			dir, test, _ := strings.Cut(shown, " ")
			source := tests(t, dir)
			if !strings.Contains(source, "func "+test+"(") {
				t.Errorf("%s: there is no test %s in %s", code, test, dir)
			}
			if !strings.Contains(source, "finding."+name) && !strings.Contains(source, code) {
				t.Errorf("%s: no test in %s asks for it", code, dir)
			}
		}
	}
	if len(names) > 0 {
		t.Errorf("docs/refusals.md lacks %q", slices.Sorted(maps.Keys(names)))
	}
}

// Editors lead from a code to what the docs say of it.
func TestEveryCodeHasAnAnchor(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join(root, "docs", "refusals.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, code := range codes(t) {
		if n := strings.Count(string(doc), `<a id="`+code+`"></a>`+"`"+code+"`"); n != 1 {
			t.Errorf("docs/refusals.md has %d anchors for %s", n, code)
		}
	}
}

var promise = regexp.MustCompile(`(?m)^\| .+ \| ([^|]+) \|$`)

// The tests that docs/security.md names exist.
func TestEachPromiseOfSecurityHasItsTest(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join(root, "docs", "security.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, m := range promise.FindAllStringSubmatch(string(doc), -1) {
		if m[1] == "shown by" {
			continue
		}
		for shown := range strings.SplitSeq(m[1], ", ") {
			dir, test, _ := strings.Cut(shown, " ")
			if found++; !strings.Contains(tests(t, dir), "func "+test+"(") {
				t.Errorf("there is no test %s in %s", test, dir)
			}
		}
	}
	if found < 40 {
		t.Errorf("only %d tests are named", found)
	}
}
