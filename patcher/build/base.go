package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/darn-dev/darn/patcher/finding"
)

// base is the source that the target is thought to be built from. It is built
// in the working tree, with an overlay that shows the files that differ as they
// were: so its paths are the target's, and its build cache the user's.
type base struct {
	// words says what the base is and why it was chosen.
	words string
	// advice says what to do if the target was built from something else.
	advice string
	// identity changes when the base's content does, as far as can be told
	// without reading it all.
	identity string
	// overlay returns the overlay. It may write files to scratch.
	overlay func(ctx context.Context, scratch string) (map[string]string, error)
	// root is the tree that the overlay is about, "" for none.
	root     string
	findings []finding.Finding
}

// chooseBase decides what the base is, as Options.Base says. dir is the main
// package's module (or its own folder, if it has no module), work the folder of
// go.work if there is one.
func chooseBase(ctx context.Context, o *Options, s *settings, dir, work string) (*base, error) {
	repo, err := findRepository(ctx, dir)
	if err != nil {
		return nil, err
	}
	if o.Base != "" {
		if repo != nil {
			commit, err := repo.commit(ctx, o.Base)
			if err != nil {
				return nil, err
			}
			if commit != "" {
				return revision(repo, commit, "given by --base"), nil
			}
		}
		folder := o.Base
		if !filepath.IsAbs(folder) {
			folder = filepath.Join(o.Dir, folder)
		}
		if st, err := os.Stat(folder); err == nil && st.IsDir() {
			return folderBase(repo, folder, dir, work)
		}
		where := "a folder, and " + dir + " is not in a git repository"
		if repo != nil {
			where = "a folder or a revision of the git repository " + repo.root
		}
		return nil, finding.Refuse(finding.TextMismatch, fmt.Sprintf("--base %q is not %s", o.Base, where),
			"give the revision or a copy of the source tree that the target was built from")
	}

	if repo == nil {
		if o.Overlay != "" {
			return &base{
				words: "the source without the overlay", identity: "tree " + dir,
				advice:  "give a copy of the source that the target was built from with --base DIR",
				overlay: func(context.Context, string) (map[string]string, error) { return map[string]string{}, nil },
			}, nil
		}
		return nil, finding.Refuse(finding.TextMismatch,
			fmt.Sprintf("there is nothing to compare the source with: %s is not in a git repository", dir),
			"give a copy of the source tree that the target was built from with --base DIR")
	}
	commit := ""
	if s.revision != "" {
		if commit, err = repo.commit(ctx, s.revision); err != nil {
			return nil, err
		}
	}
	if commit != "" {
		b := revision(repo, commit, "which the target's build information names")
		if s.modified {
			b.findings = append(b.findings, finding.Finding{
				Code: finding.TextMismatch, Severity: finding.Warning,
				Message: fmt.Sprintf("the target was built from revision %s with changes that were not committed", short(commit)),
				Advice:  "the functions of the target are compared with that revision all the same; if it was another source, give a copy of it with --base DIR",
			})
			b.words += "; there were uncommitted changes to it"
		}
		return b, nil
	}
	if commit, err = repo.commit(ctx, "HEAD"); err != nil {
		return nil, err
	}
	if commit == "" {
		return nil, finding.Refuse(finding.TextMismatch,
			fmt.Sprintf("there is nothing to compare the source with: the git repository %s has no commit", repo.root),
			"commit the source that the target was built from, or give a copy of it with --base DIR")
	}
	why := "HEAD, because the target's build information names no revision"
	if s.revision != "" {
		why = fmt.Sprintf("HEAD, because the revision %s of the target's build information is not in %s", short(s.revision), repo.root)
	}
	return revision(repo, commit, why), nil
}

func revision(repo *repository, commit, why string) *base {
	return &base{
		words: fmt.Sprintf("git revision %s (%s)", short(commit), why), identity: "git " + commit,
		advice: "give the source that the target was built from with --base REV or --base DIR",
		root:   repo.root,
		overlay: func(ctx context.Context, scratch string) (map[string]string, error) {
			return repo.restore(ctx, commit, scratch)
		},
	}
}

func short(commit string) string { return commit[:min(12, len(commit))] }

// neighbours adds to an overlay what shows the other modules of the program
// that lie on this machine (replace directives, workspaces) outside the base's
// tree as they are in the HEAD of their own repositories. It returns the
// folders of those that differ.
func neighbours(ctx context.Context, p *program, b *base, overlay map[string]string, scratch string) ([]string, error) {
	if b.root == "" {
		return nil, nil
	}
	modules, err := p.localModules(ctx, scratch)
	if err != nil {
		return nil, err
	}
	var differ []string
	for i, dir := range modules {
		if within(dir, b.root) {
			continue
		}
		repo, err := findRepository(ctx, dir)
		if err != nil {
			return nil, err
		}
		if repo == nil {
			continue
		}
		commit, err := repo.commit(ctx, "HEAD")
		if err != nil {
			return nil, err
		}
		if commit == "" {
			continue
		}
		files := filepath.Join(scratch, fmt.Sprintf("module%d", i))
		if err := os.Mkdir(files, 0o777); err != nil {
			return nil, err
		}
		was, err := repo.restore(ctx, commit, files)
		if err != nil {
			return nil, err
		}
		found := false
		for path, content := range was {
			if within(path, dir) && !within(path, b.root) {
				overlay[path], found = content, true
			}
		}
		if found {
			differ = append(differ, dir)
		}
	}
	return differ, nil
}

// folderBase is a base that is a copy of the tree: of the repository, the
// workspace or the module, whichever fits by where go.mod is in it.
func folderBase(repo *repository, folder, dir, work string) (*base, error) {
	var roots []string
	if repo != nil {
		roots = append(roots, repo.root)
	}
	roots = append(roots, work, dir)
	marker := func(dir string) string {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return "go.mod"
		}
		return "."
	}(dir)
	for _, root := range roots {
		rel, err := filepath.Rel(root, dir)
		if root == "" || err != nil || strings.HasPrefix(rel, "..") {
			continue
		}
		if _, err := os.Stat(filepath.Join(folder, rel, marker)); err != nil {
			continue
		}
		identity, err := fingerprint(folder)
		if err != nil {
			return nil, err
		}
		return &base{
			words: fmt.Sprintf("the folder %s (given by --base)", folder), identity: "folder " + identity,
			advice: "give the source that the target was built from with --base REV or --base DIR",
			root:   root,
			overlay: func(ctx context.Context, _ string) (map[string]string, error) {
				return compareTrees(ctx, root, folder)
			},
		}, nil
	}
	return nil, finding.Refuse(finding.TextMismatch,
		fmt.Sprintf("--base %s is not a copy of the source tree: it has no %s where %s has it", folder, marker, roots[len(roots)-1]),
		"give a copy of the whole module, or of the whole repository")
}

// sourceFiles lists the regular files under root by their path in it, links to
// files included.
func sourceFiles(root string) (map[string]fs.FileInfo, error) {
	files := map[string]fs.FileInfo{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); path != root && (name == ".git" || name == "node_modules") {
				return fs.SkipDir
			}
			return nil
		}
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() {
			rel, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			files[rel] = st
		}
		return nil
	})
	return files, err
}

// fingerprint identifies the content of a folder by names, sizes and times.
func fingerprint(folder string) (string, error) {
	files, err := sourceFiles(folder)
	if err != nil {
		return "", err
	}
	lines := make([]string, 0, len(files))
	for path, st := range files {
		lines = append(lines, fmt.Sprintf("%q %d %d\n", path, st.Size(), st.ModTime().UnixNano()))
	}
	slices.Sort(lines)
	sum := sha256.Sum256([]byte(folder + "\n" + strings.Join(lines, "")))
	return hex.EncodeToString(sum[:]), nil
}

// compareTrees returns an overlay that shows the tree at root as the copy in
// folder.
func compareTrees(ctx context.Context, root, folder string) (map[string]string, error) {
	was, err := sourceFiles(folder)
	if err != nil {
		return nil, err
	}
	is, err := sourceFiles(root)
	if err != nil {
		return nil, err
	}
	overlay := map[string]string{}
	for path := range is {
		// The copy may lie within the tree.
		if _, ok := was[path]; !ok && !within(filepath.Join(root, path), folder) {
			overlay[filepath.Join(root, path)] = ""
		}
	}
	for path, st := range was {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		now, then := filepath.Join(root, path), filepath.Join(folder, path)
		if other, ok := is[path]; ok && (os.SameFile(st, other) || st.Size() == other.Size() && equalFiles(now, then)) {
			continue
		}
		overlay[now] = then
	}
	return overlay, nil
}

func equalFiles(a, b string) bool {
	x, errX := os.ReadFile(a)
	y, errY := os.ReadFile(b)
	return errX == nil && errY == nil && string(x) == string(y)
}

// within reports whether path is dir or lies in it.
func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}
