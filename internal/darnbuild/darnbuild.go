// Package darnbuild builds patches for tests of what is done with them.
package darnbuild

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/darn-dev/darn/patcher/build"
)

// Builder builds patches with the darn command, which is not watched by the race
// detector: that would make building them most of what such tests do. The tests of
// the builder itself are watched.
type Builder struct {
	dir  string   // for the command
	env  []string // to make it in: tests change theirs
	once sync.Once
	err  error
}

// New returns a Builder that keeps the darn command in dir, and makes it when it
// is needed first, in the environment of now.
func New(dir string) *Builder { return &Builder{dir: dir, env: os.Environ()} }

// Build does what build.Build does. Of the options only Package, Dir, Base, Target,
// Overlay, After and Output count. Where the command fails the patch is built again
// in this process, for its error.
func (b *Builder) Build(ctx context.Context, o build.Options) error {
	darn := filepath.Join(b.dir, "darn-build")
	b.once.Do(func() {
		cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-ldflags=-w", "-o", darn, "github.com/darn-dev/darn")
		cmd.Env = b.env
		if out, err := cmd.CombinedOutput(); err != nil {
			b.err = fmt.Errorf("building darn: %w\n%s", err, out)
		}
	})
	if b.err != nil {
		return b.err
	}
	args := []string{"build", "--target", o.Target, "-o", o.Output}
	for name, value := range map[string]string{"--base": o.Base, "--overlay": o.Overlay} {
		if value != "" {
			args = append(args, name, value)
		}
	}
	for _, m := range o.After {
		args = append(args, "--after", m)
	}
	if o.Package != "" {
		args = append(args, o.Package)
	}
	cmd := exec.CommandContext(ctx, darn, args...)
	cmd.Dir = o.Dir
	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	if _, err := build.Build(ctx, o); err != nil {
		return err
	}
	return errors.New("darn " + strings.Join(args, " ") + " fails, where build.Build does not:\n" + string(out))
}
