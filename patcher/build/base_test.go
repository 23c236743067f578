package build

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher/finding"
)

// refused fails the test unless err is a Refusal with the code, all the texts,
// and an advice.
func refused(t *testing.T, err error, code finding.Code, texts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("not refused")
	}
	t.Log(err)
	if finding.CodeOf(err) != code {
		t.Fatalf("the code is %q, not %q", finding.CodeOf(err), code)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%q does not say %q", err, text)
		}
	}
	if !strings.Contains(err.Error(), "]; ") {
		t.Error("no advice is given")
	}
}

// shown is a tree as an overlay shows it.
func shown(t *testing.T, dir string, overlay map[string]string) map[string]string {
	t.Helper()
	tree := files(t, dir)
	maps.DeleteFunc(tree, func(path, _ string) bool { return strings.HasPrefix(path, ".git/") })
	for path, content := range overlay {
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			t.Fatal(err)
		}
		delete(tree, rel)
		if content != "" {
			data, err := os.ReadFile(content)
			if err != nil {
				t.Fatal(err)
			}
			tree[rel] = string(data)
		}
	}
	return tree
}

// spoil makes every kind of change to a tree.
func spoil(t *testing.T, dir string) {
	t.Helper()
	write(t, dir, "main.go", "package main // edited\n", "greet/new.go", "package greet\n", "other/other.go", "package other\n",
		"go.mod", "module example.com/other\n")
	for _, name := range []string{"greet/mark.go", "greet/word.txt"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(filepath.Join(dir, "greet/mark_loud.go"), filepath.Join(dir, "greet/loud mark.go")); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "staged.go", "package main\n")
}

func TestARevisionShowsTheTreeAsItWas(t *testing.T) {
	dir := server(t)
	write(t, dir, ".gitignore", "gen.go\n", "odd \"näme\".txt", "odd\n", "empty.txt", "")
	was := files(t, dir)
	gitInit(t, dir)
	commit := gitHead(t, dir)
	spoil(t, dir)
	write(t, dir, "odd \"näme\".txt", "even\n", "empty.txt", "full\n")
	run(t, dir, "git", "add", "staged.go")
	status := run(t, dir, "git", "status", "--porcelain")
	index := files(t, dir)[".git/index"]

	repo, err := findRepository(context.Background(), filepath.Join(dir, "greet"))
	if err != nil || repo == nil {
		t.Fatal(repo, err)
	}
	if repo.root != dir {
		t.Errorf("the root is %s, not %s", repo.root, dir)
	}
	overlay, err := repo.restore(context.Background(), commit, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if got := shown(t, dir, overlay); !maps.Equal(got, was) {
		t.Errorf("shown: %v\nwas: %v", got, was)
	}
	if files(t, dir)[".git/index"] != index || run(t, dir, "git", "status", "--porcelain") != status {
		t.Error("the repository was altered")
	}
}

func gitHead(t testing.TB, dir string) string {
	t.Helper()
	return strings.TrimSpace(run(t, dir, "git", "rev-parse", "HEAD"))
}

func TestARepositoryBehindASymbolicLink(t *testing.T) {
	dir, links := server(t), t.TempDir()
	gitInit(t, dir)
	above, into := filepath.Join(links, "above"), filepath.Join(links, "into")
	for link, to := range map[string]string{above: filepath.Dir(dir), into: filepath.Join(dir, "greet")} {
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
	}
	repo, err := findRepository(context.Background(), filepath.Join(above, "server/greet"))
	if err != nil || repo == nil || repo.root != filepath.Join(above, "server") {
		t.Errorf("%+v, %v", repo, err)
	}
	_, err = findRepository(context.Background(), into)
	refused(t, err, finding.UnsupportedBuild, into+" is reached by a symbolic link into the git repository "+dir)
}

// Generated source is often ignored; it was there when the target was built.
func TestARevisionLeavesIgnoredFilesAlone(t *testing.T) {
	dir := server(t)
	write(t, dir, ".gitignore", "gen.go\n", "gen.go", "package main\n")
	gitInit(t, dir)
	overlay, err := (&repository{dir}).restore(context.Background(), "HEAD", t.TempDir())
	if err != nil || len(overlay) != 0 {
		t.Errorf("the overlay is %v, the error %v", overlay, err)
	}
}

func TestAFolderShowsTheTreeAsItWas(t *testing.T) {
	dir := server(t)
	was := files(t, dir)
	for name, copied := range map[string]string{"elsewhere": filepath.Join(t.TempDir(), "copy"), "within": filepath.Join(dir, "copy")} {
		t.Run(name, func(t *testing.T) {
			if err := os.CopyFS(copied, os.DirFS("../../testdata/build/server")); err != nil {
				t.Fatal(err)
			}
			if name == "elsewhere" {
				spoil(t, dir)
			}
			b, err := folderBase(nil, copied, dir, "")
			if err != nil {
				t.Fatal(err)
			}
			overlay, err := b.overlay(context.Background(), t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			got := shown(t, dir, overlay)
			maps.DeleteFunc(got, func(path, _ string) bool { return strings.HasPrefix(path, "copy/") })
			if !maps.Equal(got, was) {
				t.Errorf("shown: %v\nwas: %v", got, was)
			}
		})
	}
}

// A module may be in a repository or a workspace with others: the folder may be
// a copy of any of these.
func TestAFolderMayBeTheRepositoryTheWorkspaceOrTheModule(t *testing.T) {
	top := t.TempDir()
	write(t, top, "work/go.work", "", "work/app/go.mod", "module app\n", "work/app/main.go", "package main\n", "work/lib/go.mod", "module lib\n")
	gitInit(t, top)
	repo := &repository{top}
	app, work := filepath.Join(top, "work/app"), filepath.Join(top, "work")
	for name, c := range map[string]struct{ copyOf, root string }{
		"repository": {top, top}, "workspace": {work, work}, "module": {app, app},
	} {
		t.Run(name, func(t *testing.T) {
			copied := filepath.Join(t.TempDir(), "copy")
			if err := os.CopyFS(copied, os.DirFS(c.copyOf)); err != nil {
				t.Fatal(err)
			}
			b, err := folderBase(repo, copied, app, work)
			if err != nil {
				t.Fatal(err)
			}
			if b.root != c.root {
				t.Errorf("it is taken for a copy of %s", b.root)
			}
		})
	}
	_, err := folderBase(repo, t.TempDir(), app, work)
	refused(t, err, finding.TextMismatch, "is not a copy of the source tree: it has no go.mod where "+app+" has it")
}

func TestTheIdentityOfAFolderFollowsItsContent(t *testing.T) {
	dir := server(t)
	identity := func() string {
		t.Helper()
		b, err := folderBase(nil, dir, dir, "")
		if err != nil {
			t.Fatal(err)
		}
		return b.identity
	}
	before := identity()
	if identity() != before {
		t.Error("it changes by itself")
	}
	edit(t, filepath.Join(dir, "main.go"), "hello", "howdy")
	if identity() == before {
		t.Error("it does not change when a file does")
	}
}

func TestWhichBaseIsChosen(t *testing.T) {
	dir := server(t)
	gitInit(t, dir)
	first := gitHead(t, dir)
	edit(t, filepath.Join(dir, "main.go"), "hello", "howdy")
	second := gitCommit(t, dir)
	run(t, dir, "git", "tag", "v2")
	plain, empty, copied := server(t), t.TempDir(), server(t)
	run(t, empty, "git", "init", "-q")
	gone := strings.Repeat("ab", 20)
	ctx := context.Background()

	for name, c := range map[string]struct {
		dir, base, overlay, revision string
		modified                     bool
		words, identity              string
	}{
		"build information": {dir: dir, revision: first,
			words: "git revision " + first[:12] + " (which the target's build information names)", identity: "git " + first},
		"modified": {dir: dir, revision: first, modified: true,
			words: "(which the target's build information names); there were uncommitted changes to it", identity: "git " + first},
		"no revision": {dir: dir,
			words: "git revision " + second[:12] + " (HEAD, because the target's build information names no revision)", identity: "git " + second},
		"revision not here": {dir: dir, revision: gone,
			words: "(HEAD, because the revision abababababab of the target's build information is not in " + dir, identity: "git " + second},
		"in a folder of it": {dir: filepath.Join(dir, "greet"), revision: first, words: "git revision " + first[:12], identity: "git " + first},
		"given revision":    {dir: dir, revision: second, base: first[:8], words: "git revision " + first[:12] + " (given by --base)", identity: "git " + first},
		"given tag":         {dir: dir, revision: first, base: "v2", words: "git revision " + second[:12] + " (given by --base)", identity: "git " + second},
		"given folder":      {dir: dir, revision: first, base: copied, words: "the folder " + copied + " (given by --base)"},
		"not in git":        {dir: plain, base: copied, words: "the folder " + copied + " (given by --base)"},
		"only an overlay":   {dir: plain, overlay: "overlay.json", words: "the source without the overlay", identity: "tree " + plain},
		"relative folder":   {dir: plain, base: "../server", words: "the folder " + plain + " (given by --base)"},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := chooseBase(ctx, &Options{Dir: c.dir, Base: c.base, Overlay: c.overlay}, &settings{revision: c.revision, modified: c.modified}, c.dir, "")
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(b.words, c.words) || c.identity != "" && b.identity != c.identity {
				t.Errorf("%q, %q", b.words, b.identity)
			}
			if c.modified != (len(b.findings) == 1) {
				t.Errorf("findings: %v", b.findings)
			}
			if c.modified {
				f := b.findings[0]
				if f.Code != finding.TextMismatch || f.Severity != finding.Warning || f.Advice == "" ||
					!strings.Contains(f.Message, "the target was built from revision "+first[:12]+" with changes that were not committed") {
					t.Errorf("the finding is %v", f)
				}
			}
		})
	}
	for name, c := range map[string]struct{ dir, base, text string }{
		"not in git":            {plain, "", "there is nothing to compare the source with: " + plain + " is not in a git repository"},
		"no commit":             {empty, "", "the git repository " + empty + " has no commit"},
		"neither in git":        {dir, "v3", `--base "v3" is not a folder or a revision of the git repository ` + dir},
		"neither":               {plain, "v3", `--base "v3" is not a folder, and ` + plain + " is not in a git repository"},
		"revision like a flag":  {dir, "--all", `--base "--all" is not a folder`},
		"a file":                {plain, "main.go", `--base "main.go" is not a folder`},
		"a folder without tree": {plain, "greet", "/greet is not a copy of the source tree: it has no go.mod where"},
	} {
		t.Run("refused: "+name, func(t *testing.T) {
			_, err := chooseBase(ctx, &Options{Dir: c.dir, Base: c.base}, &settings{}, c.dir, "")
			refused(t, err, finding.TextMismatch, c.text)
		})
	}
}

// A module that the program takes from a folder of its own, by a replace
// directive or a workspace, is shown as its own repository has it.
func TestModulesOutsideTheBaseAreShownAsInTheirHead(t *testing.T) {
	isolate(t)
	for name, use := range map[string][]string{
		"replace":   {"app/go.mod", "module app\n\ngo 1.24\n\nrequire lib v0.0.0\n\nreplace lib => ../lib\n"},
		"workspace": {"app/go.mod", "module app\n\ngo 1.24\n", "go.work", "go 1.24\n\nuse (\n\t./app\n\t./lib\n)\n"},
	} {
		t.Run(name, func(t *testing.T) {
			top := t.TempDir()
			app, lib := filepath.Join(top, "app"), filepath.Join(top, "lib")
			write(t, top, append(use,
				"app/main.go", "package main\n\nimport \"lib\"\n\nfunc main() { println(lib.Word()) }\n",
				"lib/go.mod", "module lib\n\ngo 1.24\n", "lib/lib.go", "package lib\n\nfunc Word() string { return \"old\" }\n")...)
			gitInit(t, app)
			gitInit(t, lib)
			was := files(t, lib)
			p := programOf(t, app, goBuild(t, app))
			edit(t, filepath.Join(lib, "lib.go"), "old", "new")
			edit(t, filepath.Join(app, "main.go"), "println", "print")
			b, err := chooseBase(context.Background(), &Options{Dir: app}, p.settings, p.module, p.work)
			if err != nil {
				t.Fatal(err)
			}
			overlay := map[string]string{}
			differ, err := neighbours(context.Background(), p, b, overlay, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(differ, []string{lib}) {
				t.Errorf("differ: %v", differ)
			}
			maps.DeleteFunc(was, func(path, _ string) bool { return strings.HasPrefix(path, ".git/") })
			if got := shown(t, lib, overlay); !maps.Equal(got, was) {
				t.Errorf("shown: %v", got)
			}
			for path := range overlay {
				if !within(path, lib) {
					t.Errorf("%s is in the overlay", path)
				}
			}
		})
	}
}
