package object

import (
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// PackageOf returns the import path of the package that a symbol belongs to by
// its name, "" if the name has none (assembly, type algorithms, wrappers of
// nameless types).
func PackageOf(name string) string {
	if strings.HasPrefix(name, "type:") || strings.HasPrefix(name, "go:") {
		return ""
	}
	head := name
	if i := strings.IndexAny(head, "[({ "); i >= 0 {
		head = head[:i]
	}
	slash := strings.LastIndexByte(head, '/') + 1
	dot := strings.IndexByte(head[slash:], '.')
	if dot < 0 {
		return ""
	}
	return unescape(head[:slash+dot])
}

// unescape undoes cmd/internal/objabi.PathToPrefix.
func unescape(path string) string {
	if !strings.Contains(path, "%") {
		return path
	}
	if p, err := url.PathUnescape(path); err == nil {
		return p
	}
	return path
}

// SymbolPrefix returns what the names of a package's symbols begin with, as
// cmd/internal/objabi.PathToPrefix has it, and a dot.
func SymbolPrefix(pkg string) string {
	var b strings.Builder
	for i := range len(pkg) {
		switch c := pkg[i]; {
		case c <= ' ' || c == '%' || c == '"' || c >= 0x7f || c == '.' && i > strings.LastIndexByte(pkg, '/'):
			fmt.Fprintf(&b, "%%%02x", c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String() + "."
}

// initNumber matches the name of a func init.
var initNumber = regexp.MustCompile(`\.init\.[0-9]+$`)

// closureSuffix is what cmd/compile appends to the name of the enclosing
// function for a function that the source gives no name: see closureName in
// cmd/compile/internal/ir/func.go. The number depends on the order in the
// source.
var closureSuffix = regexp.MustCompile(`(\.func|\.gowrap|\.deferwrap|-range|\.)([0-9]+)$`)

// closureName splits the name of a closure or compiler-made wrapper into that
// of the function around it (which inlining may have merged from several), its
// kind and its number.
func closureName(name string) (outer, kind string, number int, ok bool) {
	if name == "" || name[len(name)-1] < '0' || name[len(name)-1] > '9' || strings.HasPrefix(name, "type:") || strings.HasPrefix(name, "go:") {
		return "", "", 0, false
	}
	m := closureSuffix.FindStringSubmatchIndex(name)
	if m == nil {
		return "", "", 0, false
	}
	outer, kind = name[:m[0]], name[m[2]:m[3]]
	number, err := strconv.Atoi(name[m[4]:m[5]])
	if err != nil {
		return "", "", 0, false
	}
	if kind == "." { // a closure in a closure, unlike pkg.init.0
		if _, _, _, inner := closureName(outer); !inner {
			return "", "", 0, false
		}
		kind = ".func"
	}
	return outer, kind, number, true
}

// isClosure tells whether a function's name depends on what else is in the
// source.
func isClosure(name string) bool {
	_, _, _, ok := closureName(name)
	return ok
}

// isInit tells whether a function initialises a package: it has run, and never
// runs again.
func isInit(name string) bool {
	pkg := PackageOf(name)
	if pkg == "" || len(name) <= len(pkg) {
		return false
	}
	// The path may be escaped in name, so look at what follows the package.
	rest := name[strings.LastIndexByte(name, '/')+1:]
	rest = rest[strings.IndexByte(rest, '.')+1:]
	rest = strings.TrimPrefix(rest, "map.")
	if rest == "init" {
		return true
	}
	n, ok := strings.CutPrefix(rest, "init.")
	if !ok {
		return false
	}
	_, err := strconv.Atoi(n)
	return err == nil
}

// jumpTable matches the name of a switch's jump table.
var jumpTable = regexp.MustCompile(`\.jump[0-9]+$`)

// namedByContent tells whether a symbol's name is no lasting one: it is told by
// what it holds. These are the compiler's pkg..stmp_N, pkg..interfaceSwitch.N,
// pkg..typeAssert.N, pkg..dict.F[T] and so on, jump tables, and the functions
// that compare and hash types.
func namedByContent(name string) bool {
	if strings.HasPrefix(name, "type:.") {
		return true
	}
	if i := strings.Index(name, ".."); i >= 0 {
		return name[i:] != "..inittask"
	}
	return jumpTable.MatchString(name)
}

// cgoHash matches what cgo puts into names, which depends on the text of all
// the files that it has rewritten (cmd/cgo/main.go, cPrefix).
var cgoHash = regexp.MustCompile(`_cgo(exp)?_[0-9a-f]{12}_`)

// sameNames tells whether two names mean the same: of what cgo makes, the edit
// changes the name of each.
func sameNames(b, n string) bool {
	if b == n {
		return true
	}
	return strings.Contains(b, "_cgo") && strings.Contains(n, "_cgo") &&
		cgoHash.ReplaceAllString(b, "_cgo${1}_") == cgoHash.ReplaceAllString(n, "_cgo${1}_")
}
