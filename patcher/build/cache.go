package build

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// keptBases is how many bases the cache holds; one is some 20 MB.
const keptBases = 16

// baseCache holds captured bases that were found equal to their target, in the
// user's cache directory. What goes wrong with it costs time only.
type baseCache struct {
	dir string // "" without a cache
	key string
}

func openBaseCache(goBuildID, pkg, identity string) *baseCache {
	user, err := os.UserCacheDir()
	if err != nil {
		return &baseCache{}
	}
	const format = "1" // of what is captured
	sum := sha256.Sum256([]byte(strings.Join([]string{format, goBuildID, pkg, identity}, "\n")))
	return &baseCache{dir: filepath.Join(user, "darn", "base"), key: hex.EncodeToString(sum[:])}
}

// get returns the base if the cache has it.
func (c *baseCache) get() (*captured, bool) {
	if c.dir == "" {
		return nil, false
	}
	b := &captured{filepath.Join(c.dir, c.key)}
	if _, err := b.packages(); err != nil {
		return nil, false
	}
	if _, err := os.Stat(b.object()); err != nil {
		return nil, false
	}
	now := time.Now()
	_ = os.Chtimes(b.dir, now, now) // what prune goes by
	return b, true
}

// put copies a base into the cache. A reader sees the whole or nothing.
func (c *baseCache) put(b *captured) {
	if c.dir == "" || os.MkdirAll(c.dir, 0o777) != nil {
		return
	}
	tmp, err := os.MkdirTemp(c.dir, "new-")
	if err != nil {
		return
	}
	defer os.RemoveAll(tmp)
	for _, name := range []string{objectFile, packagesFile} {
		if err := copyFile(filepath.Join(tmp, name), filepath.Join(b.dir, name)); err != nil {
			return
		}
	}
	// Renaming fails if another Darn was faster.
	if err := os.Rename(tmp, filepath.Join(c.dir, c.key)); err == nil {
		prune(c.dir, keptBases)
	}
}

// drop removes the base from the cache.
func (c *baseCache) drop() {
	if c.dir != "" {
		_ = os.RemoveAll(filepath.Join(c.dir, c.key))
	}
}

// prune removes what was not used for longest from a folder of a cache, if it
// has more entries than most.
func prune(dir string, most int) {
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) <= most {
		return
	}
	used := func(e fs.DirEntry) time.Time {
		info, err := e.Info()
		if err != nil {
			return time.Time{}
		}
		return info.ModTime()
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return used(b).Compare(used(a)) })
	for _, e := range entries[most:] {
		_ = os.RemoveAll(filepath.Join(dir, e.Name()))
	}
}

func copyFile(to, from string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = io.Copy(out, in)
	return err
}
