package build

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher/finding"
)

// layouts is a program whose types are in packages that have nothing else, and
// functions that depend on a type in ways that their source does not show.
var layouts = []string{
	"go.mod", "module example.com/layouts\n\ngo 1.24\n",
	"model/model.go", "package model\n\ntype User struct {\n\tName string\n\tAge  int\n}\n\ntype Inner struct {\n\tA, B int\n}\n",
	"ports/ports.go", "package ports\n\ntype Store interface {\n\tPut() int\n}\n",
	"main.go", `package main

import (
	"time"
	"unsafe"

	"example.com/layouts/model"
	"example.com/layouts/ports"
)

type disk struct{ n int }

func (d *disk) Put() int { return d.n }
func (d *disk) Get() int { return -d.n }

type outer struct{ *model.Inner }

type getter interface{ get() int }

type impl struct{ in *model.Inner }

func (i *impl) get() int { return i.in.B }

const innerSize = unsafe.Sizeof(model.Inner{})

var (
	user  = &model.User{Name: "eve", Age: 30}
	store ports.Store = &disk{7}
	out   = &outer{&model.Inner{A: 1, B: 2}}
	in    = &impl{out.Inner}
	keep  getter = in
)

//go:noinline
func age() int { return user.Age }

//go:noinline
func use(s ports.Store) int { return s.Put() }

//go:noinline
func promoted(o *outer) int { return o.B }

//go:noinline
func devirtualised(i *impl) int { n := other(); var g getter = i; return n + g.get() }

//go:noinline
func sized() uintptr { return innerSize }

//go:noinline
func other() int { return 100 }

func main() {
	for {
		println(age(), use(store), promoted(out), devirtualised(in), sized(), keep.get(), other())
		time.Sleep(time.Second)
	}
}
`,
}

func layoutsProgram(t *testing.T) *built {
	t.Helper()
	isolate(t)
	dir := filepath.Join(t.TempDir(), "layouts")
	write(t, dir, layouts...)
	gitInit(t, dir)
	return &built{dir: dir, target: goBuild(t, dir)}
}

func TestTypesOfPackagesWithoutCodeAreCompared(t *testing.T) {
	b := layoutsProgram(t)
	for _, x := range []struct {
		file, old, new string
		code           finding.Code
		words          string
	}{
		{"model/model.go", "\tName string\n", "\tEmail string\n\tName string\n", finding.TypeLayoutChanged, "example.com/layouts/model.User"},
		{"ports/ports.go", "\tPut() int\n", "\tGet() int\n\tPut() int\n", finding.MethodSetChanged, "example.com/layouts/ports.Store"},
	} {
		edit(t, filepath.Join(b.dir, x.file), x.old, x.new)
		edit(t, filepath.Join(b.dir, "main.go"), "return s.Put()", "return s.Put() + 1")
		_, err := Build(context.Background(), b.options(t))
		refused(t, err, x.code, x.words)
		edit(t, filepath.Join(b.dir, x.file), x.new, x.old)
		edit(t, filepath.Join(b.dir, "main.go"), "return s.Put() + 1", "return s.Put()")
	}
}

func TestAPartialBuildSeesThroughWhatTheCompilerDoes(t *testing.T) {
	b := layoutsProgram(t)
	edit(t, filepath.Join(b.dir, "model/model.go"), "\tA, B int", "\tZero, A, B int")
	edit(t, filepath.Join(b.dir, "main.go"), "return 100", "return 200")
	o := b.options(t)
	o.Partial = true
	r, err := Build(context.Background(), o)
	replaces(t, r, err, "main.other")
	var left []string
	for _, f := range r.LeftOut {
		left = append(left, f.Name)
	}
	slices.Sort(left)
	for _, want := range []string{"main.promoted", "main.devirtualised", "main.sized"} {
		if !slices.Contains(left, want) {
			t.Errorf("%s is not left out: %s", want, strings.Join(left, " "))
		}
	}
}
