package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/darn-dev/darn/patcher/finding"
)

// repository is a git working tree. Nothing here writes to it or to its index.
type repository struct {
	root string // the working tree's top, spelled as the go command spells paths
}

// run runs git in the working tree and returns what it prints.
func (r *repository) run(ctx context.Context, args ...string) (string, error) {
	return git(ctx, r.root, args...)
}

func git(ctx context.Context, dir string, args ...string) (string, error) {
	// With optional locks git would refresh the index on the way.
	return command(ctx, dir, []string{"GIT_OPTIONAL_LOCKS=0", "LC_ALL=C"}, nil, "git", args...)
}

// findRepository returns the working tree that dir lies in, nil if there is
// none, or no git.
func findRepository(ctx context.Context, dir string) (*repository, error) {
	top, err := git(ctx, dir, "rev-parse", "--show-toplevel")
	if failed, ok := errors.AsType[*commandError](err); ok {
		if errors.Is(err, exec.ErrNotFound) || strings.Contains(failed.text, "not a git repository") || strings.Contains(failed.text, "must be run in a work tree") {
			return nil, nil
		}
	}
	if err != nil {
		return nil, err
	}
	top = strings.TrimSuffix(top, "\n")
	real, err := os.Stat(top)
	if err != nil {
		return nil, err
	}
	// git resolves symbolic links and the go command doesn't: the overlay needs
	// the go command's spelling.
	for root := dir; ; root = filepath.Dir(root) {
		if st, err := os.Stat(root); err == nil && os.SameFile(st, real) {
			return &repository{root}, nil
		}
		if root == filepath.Dir(root) {
			return nil, finding.Refuse(finding.UnsupportedBuild,
				fmt.Sprintf("%s is reached by a symbolic link into the git repository %s", dir, top),
				"run darn in the real folder")
		}
	}
}

// commit returns the full name of the commit that rev names, "" if there is
// none.
func (r *repository) commit(ctx context.Context, rev string) (string, error) {
	out, err := r.run(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", rev+"^{commit}")
	if _, ok := errors.AsType[*commandError](err); ok {
		return "", nil
	}
	return strings.TrimSpace(out), err
}

// restore returns an overlay that shows the working tree as it is in a commit.
// Contents of files that differ are written to scratch. Ignored files stay as
// they are: generated source is often among them.
func (r *repository) restore(ctx context.Context, commit, scratch string) (map[string]string, error) {
	overlay := map[string]string{}
	// Entries: ":oldmode newmode oldhash newhash status", NUL, path, NUL.
	raw, err := r.run(ctx, "diff", "--raw", "--no-abbrev", "--no-renames", "--no-ext-diff", "--ignore-submodules=all", "-z", commit, "--")
	if err != nil {
		return nil, err
	}
	var hashes bytes.Buffer
	var paths []string
	fields := strings.Split(strings.TrimSuffix(raw, "\x00"), "\x00")
	for i := 0; i+1 < len(fields); i += 2 {
		meta, path := strings.Fields(fields[i]), filepath.Join(r.root, fields[i+1])
		if len(meta) != 5 {
			return nil, fmt.Errorf("git diff: unexpected %q", fields[i])
		}
		switch meta[0] {
		case ":000000": // added since
			overlay[path] = ""
		case ":100644", ":100755":
			fmt.Fprintln(&hashes, meta[2])
			paths = append(paths, path)
		}
	}
	untracked, err := r.run(ctx, "ls-files", "--others", "--exclude-standard", "-z", "--full-name")
	if err != nil {
		return nil, err
	}
	for path := range strings.SplitSeq(strings.TrimSuffix(untracked, "\x00"), "\x00") {
		if path != "" && !strings.HasSuffix(path, "/") { // a repository of its own
			overlay[filepath.Join(r.root, path)] = ""
		}
	}
	if len(paths) == 0 {
		return overlay, nil
	}

	out, err := commandInput(ctx, r.root, nil, &hashes, nil, "git", "cat-file", "--batch")
	if err != nil {
		return nil, err
	}
	for i, path := range paths {
		var hash, kind string
		var size int
		header, rest, _ := strings.Cut(out, "\n")
		if n, _ := fmt.Sscan(header, &hash, &kind, &size); n != 3 || kind != "blob" || size+1 > len(rest) {
			return nil, fmt.Errorf("git cat-file: unexpected %q for %s", header, path)
		}
		file := filepath.Join(scratch, fmt.Sprintf("%d-%s", i, filepath.Base(path)))
		if err := os.WriteFile(file, []byte(rest[:size]), 0o666); err != nil {
			return nil, err
		}
		overlay[path], out = file, rest[size+1:]
	}
	return overlay, nil
}
