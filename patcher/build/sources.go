package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	gobuild "go/build"
	"go/parser"
	"go/token"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/darn-dev/darn/patcher/build/source"
)

// sources knows the source of the program's packages: as it is, and as it was.
type sources struct {
	packages map[string]*listed // by import path as in symbols
	paths    map[string]string  // of files, by the names that -trimpath gives them
	was, is  map[string]string  // overlays
	tags     []string
	trimmed  bool // -trimpath: the compiler has those names
	edits    map[string]*source.Edit
}

// listed is what the go command says of a package.
type listed struct {
	ImportPath, Dir, Name, ForTest, Export string
	Standard                               bool
	GoFiles, CgoFiles                      []string
	ImportMap                              map[string]string
	Module                                 *struct{ Path, Version string }

	test bool // whether it is of a test's program
}

// path is the package's import path as in symbols.
func (l *listed) path() string {
	path, _, variant := strings.Cut(l.ImportPath, " ")
	if l.Name != "main" || variant || l.ForTest != "" || l.test && !strings.HasSuffix(path, ".test") {
		return path
	}
	return "main"
}

// files lists the package's files that the compiler sees, cgo's before they are
// rewritten.
func (l *listed) files() []string {
	var files []string
	for _, name := range slices.Concat(l.GoFiles, l.CgoFiles) {
		if !filepath.IsAbs(name) { // what the go command makes for tests is
			files = append(files, filepath.Join(l.Dir, name))
		}
	}
	return files
}

// list lists the packages of the program by import path; with export, after
// it has compiled them, with the files of their export data.
func (p *program) list(ctx context.Context, overlay map[string]string, scratch string, export bool) (map[string]*listed, error) {
	args := []string{"list", "-deps", "-json=ImportPath,Dir,Name,ForTest,Export,Standard,GoFiles,CgoFiles,ImportMap,Module"}
	if p.settings.test {
		args = append(args, "-test")
	}
	for _, flag := range p.settings.flags {
		if export || strings.HasPrefix(flag, "-tags=") {
			args = append(args, flag)
		}
	}
	if export {
		args = append(args, "-export")
	} else {
		args = append(args, "-e", "-pgo=off")
	}
	flags, err := p.overlayFlag(scratch, overlay)
	if err != nil {
		return nil, err
	}
	out, err := command(ctx, p.dir, p.env, nil, "go", append(append(args, flags...), "--", p.pattern)...)
	if err != nil {
		return nil, err
	}
	packages := map[string]*listed{}
	for d := json.NewDecoder(strings.NewReader(out)); ; {
		l := &listed{test: p.settings.test}
		if err := d.Decode(l); errors.Is(err, io.EOF) {
			return packages, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		// What is compiled for a test stands for the package.
		if old := packages[l.path()]; old == nil || old.ForTest == "" {
			packages[l.path()] = l
		}
	}
}

// openSources lists the program's packages. was is the overlay that shows the
// base.
func (p *program) openSources(ctx context.Context, was map[string]string, scratch string) (*sources, error) {
	packages, err := p.list(ctx, p.overlay, scratch, false)
	if err != nil {
		return nil, err
	}
	s := &sources{packages: packages, paths: map[string]string{}, was: was, is: p.overlay, edits: map[string]*source.Edit{}}
	for _, l := range packages {
		trimmed, _, _ := strings.Cut(l.ImportPath, " ")
		if m := l.Module; m != nil && m.Version != "" {
			trimmed = m.Path + "@" + m.Version + strings.TrimPrefix(trimmed, m.Path)
		}
		for _, file := range l.files() {
			s.paths[trimmed+"/"+filepath.Base(file)] = file
		}
	}
	for _, flag := range p.settings.flags {
		s.trimmed = s.trimmed || flag == "-trimpath" || flag == "-trimpath=true"
		if tags, ok := strings.CutPrefix(flag, "-tags="); ok {
			s.tags = strings.Split(tags, ",")
		}
	}
	return s, nil
}

// edited lists the packages of which a file differs, and the files that are
// part of no package of the program.
func (s *sources) edited() (packages, files []string) {
	dirs := map[string][]string{} // packages by folder
	for pkg, l := range s.packages {
		dirs[l.Dir] = append(dirs[l.Dir], pkg)
	}
	packages = []string{}
	for _, overlay := range []map[string]string{s.was, s.is} {
		for path := range overlay {
			if filepath.Ext(path) != ".go" || slices.Contains(files, path) {
				continue
			}
			is, errIs := s.read(path)
			was, errWas := readOverlaid(path, s.was)
			if errIs == nil && errWas == nil && string(is) == string(was) {
				continue
			}
			found := false
			for _, pkg := range dirs[filepath.Dir(path)] {
				if l := s.packages[pkg]; slices.Contains(l.files(), path) || s.belonged(l, path) {
					packages, found = append(packages, pkg), true
				}
			}
			if !found && !strings.HasSuffix(path, "_test.go") {
				files = append(files, path)
			}
		}
	}
	slices.Sort(packages)
	slices.Sort(files)
	return slices.Compact(packages), files
}

// read reads a file of the new source by its path.
func (s *sources) read(path string) ([]byte, error) { return readOverlaid(path, s.is) }

// readOverlaid reads a file as an overlay shows it.
func readOverlaid(path string, overlay map[string]string) ([]byte, error) {
	if to, ok := overlay[path]; ok {
		if to == "" {
			return nil, os.ErrNotExist
		}
		path = to
	}
	return os.ReadFile(path)
}

// edit compares the source of a package; it is nil if that is not known.
func (s *sources) edit(pkg string) *source.Edit {
	e, known := s.edits[pkg]
	if !known {
		e, _ = s.compare(pkg) // what can't be parsed is not known
		s.edits[pkg] = e
	}
	return e
}

func (s *sources) compare(pkg string) (*source.Edit, error) {
	l := s.packages[pkg]
	if l == nil {
		return nil, nil
	}
	paths := l.files()
	for _, overlay := range []map[string]string{s.was, s.is} { // and files that are no more
		for path := range overlay {
			if filepath.Dir(path) == l.Dir && !slices.Contains(paths, path) {
				paths = append(paths, path)
			}
		}
	}
	var files []source.File
	for _, path := range paths {
		f := source.File{Path: path}
		var err error
		if slices.Contains(l.GoFiles, filepath.Base(path)) || slices.Contains(l.CgoFiles, filepath.Base(path)) {
			if f.Is, err = s.read(path); err != nil {
				return nil, err
			}
		}
		if s.belonged(l, path) {
			if f.Was, err = readOverlaid(path, s.was); err != nil {
				return nil, err
			}
		}
		files = append(files, f)
	}
	return source.Compare(files)
}

// belonged tells whether a file was part of the package.
func (s *sources) belonged(l *listed, path string) bool {
	_, edited := s.is[path]
	was, restored := s.was[path]
	if !edited && !restored {
		return true
	}
	if !restored {
		was = path
	}
	if was == "" || filepath.Ext(path) != ".go" || l.ForTest == "" && strings.HasSuffix(path, "_test.go") {
		return false
	}
	c := gobuild.Default
	c.GOOS, c.GOARCH, c.BuildTags, c.CgoEnabled = "linux", "amd64", s.tags, true
	c.OpenFile = func(string) (io.ReadCloser, error) { return os.Open(was) }
	if match, err := c.MatchFile(filepath.Dir(path), filepath.Base(path)); err != nil || !match {
		return false
	}
	// A folder has a package and that of its outer tests.
	file, err := parser.ParseFile(token.NewFileSet(), was, nil, parser.PackageClauseOnly)
	return err == nil && file.Name.Name == l.Name
}
