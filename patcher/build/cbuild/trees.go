package cbuild

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/darn-dev/darn/patcher/finding"
)

// unit is a source file that is compiled, as it was and as it is.
type unit struct {
	name      string   // for people
	base, now string   // the files; base is "" for a new one
	was, is   command  // how each is compiled
	changed   []string // files of it that the edit changed, by their paths in the trees
}

// extract writes a git revision of the repository that dir lies in to a folder.
// Files that git ignores are there as they are: what is generated is often among
// them.
func extract(ctx context.Context, dir, revision, to string) (root string, err error) {
	if root, err = repository(ctx, dir); err != nil {
		return "", err
	}
	archive, err := output(ctx, root, "git", "archive", "--format=tar", revision)
	if err != nil {
		return "", err
	}
	r := tar.NewReader(strings.NewReader(archive))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return root, linkIgnored(ctx, root, to)
		}
		if err != nil {
			return "", err
		}
		if !filepath.IsLocal(h.Name) {
			return "", fmt.Errorf("git archive: unexpected path %q", h.Name)
		}
		path := filepath.Join(to, h.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			return "", err
		}
		switch h.Typeflag {
		case tar.TypeDir:
			err = os.MkdirAll(path, 0o777)
		case tar.TypeSymlink:
			err = os.Symlink(h.Linkname, path)
		case tar.TypeReg:
			var data []byte
			if data, err = io.ReadAll(r); err == nil {
				err = os.WriteFile(path, data, 0o666)
			}
		}
		if err != nil {
			return "", err
		}
	}
}

// linkIgnored puts links to the files that git ignores in a working tree into a
// copy of the tree.
func linkIgnored(ctx context.Context, root, to string) error {
	list, err := output(ctx, root, "git", "ls-files", "--others", "--ignored", "--exclude-standard", "-z")
	if err != nil {
		return err
	}
	for rel := range strings.SplitSeq(list, "\x00") {
		path := filepath.Join(to, rel)
		if !filepath.IsLocal(rel) || exists(path) {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			return err
		}
		if err := os.Symlink(filepath.Join(root, rel), path); err != nil {
			return err
		}
	}
	return nil
}

// repository returns the top of the git working tree that dir lies in.
func repository(ctx context.Context, dir string) (string, error) {
	top, err := output(ctx, dir, "git", "rev-parse", "--show-toplevel")
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(strings.TrimSpace(top))
}

// isRevision tells whether a name is a revision of the repository that dir lies in.
func isRevision(ctx context.Context, dir, name string) bool {
	return run(ctx, dir, "git", "rev-parse", "--verify", "--quiet", "--end-of-options", name+"^{commit}") == nil
}

// rootOf returns the tree that the paths of commands are about: one of the given
// ones, or else the one that has most of their files.
func rootOf(commands []command, trees ...string) string {
	for _, tree := range trees {
		for _, c := range commands {
			if within(c.file, tree) {
				return tree
			}
		}
	}
	best, most := "", 0
	for root := filepath.Dir(commands[0].file); ; root = filepath.Dir(root) {
		n := 0
		for _, c := range commands {
			if rel, err := filepath.Rel(root, c.file); err == nil && filepath.IsLocal(rel) && exists(filepath.Join(trees[0], rel)) {
				n++
			}
		}
		if n > most {
			best, most = root, n
		}
		if root == filepath.Dir(root) {
			return best
		}
	}
}

func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

// differing returns the files that two trees have in other versions, by their
// paths in them.
func differing(base, now string) (map[string]bool, error) {
	list := func(root string) (map[string]fs.FileInfo, error) {
		files := map[string]fs.FileInfo{}
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() && path != root && (d.Name() == ".git" || path == base) {
				return fs.SkipDir
			}
			if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
				rel, err := filepath.Rel(root, path)
				if err != nil {
					return err
				}
				files[rel] = info
			}
			return nil
		})
		return files, err
	}
	was, err := list(base)
	if err != nil {
		return nil, err
	}
	is, err := list(now)
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	for rel, info := range is {
		other, there := was[rel]
		if there && os.SameFile(info, other) || there && info.Size() == other.Size() && equal(filepath.Join(base, rel), filepath.Join(now, rel)) {
			continue
		}
		found[rel] = true
	}
	for rel := range was {
		if _, there := is[rel]; !there {
			found[rel] = true
		}
	}
	return found, nil
}

func equal(a, b string) bool {
	x, errX := os.ReadFile(a)
	y, errY := os.ReadFile(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// unitsOf finds which of the sources changed between two trees, or include a file
// that did. only, if not "", is the one that is asked for. left are files that
// differ too and that the units may not bring.
func unitsOf(ctx context.Context, commands []command, root, base, now, only string) (units []unit, left []string, err error) {
	differ, err := differing(base, now)
	if err != nil {
		return nil, nil, err
	}
	// A file that is no source of its own may be included anywhere.
	sources := map[string]bool{}
	for _, c := range commands {
		if rel, err := filepath.Rel(root, c.file); err == nil {
			sources[rel] = true
		}
	}
	included := false
	for rel := range differ {
		included = included || !sources[rel]
	}
	for rel := range differ {
		if code := IsSource(rel) || slices.Contains([]string{".s", ".S", ".asm"}, filepath.Ext(rel)); code && !sources[rel] && only == "" {
			left = append(left, rel)
		}
	}
	for i := range commands {
		c := &commands[i]
		rel, err := filepath.Rel(root, c.file)
		if err != nil || !filepath.IsLocal(rel) || only != "" && filepath.Join(now, rel) != only {
			continue
		}
		u := unit{name: rel, base: filepath.Join(base, rel), now: filepath.Join(now, rel), was: c.in(root, base), is: c.in(root, now)}
		if !exists(u.now) {
			continue // removed
		}
		if !exists(u.base) {
			u.base = ""
		}
		if differ[rel] {
			u.changed = []string{rel}
		}
		units = append(units, u)
	}
	if included {
		err := each(len(units), func(i int) error {
			u := &units[i]
			for _, side := range []struct {
				c          *command
				tree, file string
			}{{&u.is, now, u.now}, {&u.was, base, u.base}} {
				if side.file == "" {
					continue
				}
				paths, err := side.c.includes(ctx)
				if err != nil {
					return err
				}
				for _, path := range paths {
					if rel, err := filepath.Rel(side.tree, path); err == nil && differ[rel] && !slices.Contains(u.changed, rel) {
						u.changed = append(u.changed, rel)
					}
				}
			}
			return nil
		})
		if err != nil {
			return nil, nil, err
		}
	}
	units = slices.DeleteFunc(units, func(u unit) bool { return len(u.changed) == 0 })
	slices.SortFunc(units, func(a, b unit) int { return strings.Compare(a.name, b.name) })
	if len(units) == 0 {
		return nil, nil, finding.Refuse(finding.NoChange, fmt.Sprintf("no source file of the program differs between %s and %s", base, now),
			"give the tree that the program was built from with --base, and the edited one with --new")
	}
	for _, u := range units {
		for _, rel := range u.changed {
			if only != "" && rel != u.name {
				left = append(left, rel)
			}
		}
	}
	slices.Sort(left)
	return units, left, nil
}

// each calls f for 0 to n-1, some at a time, and returns the first error.
func each(n int, f func(i int) error) error {
	errs := make([]error, n)
	var wait sync.WaitGroup
	slots := make(chan struct{}, runtime.NumCPU())
	for i := range n {
		wait.Add(1)
		slots <- struct{}{}
		go func() {
			defer wait.Done()
			errs[i] = f(i)
			<-slots
		}()
	}
	wait.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
