package patcher

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/darn-dev/darn/patcher/clink"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/module"
	"github.com/darn-dev/darn/patcher/process"
)

// DlopenTimeout is for how long a load waits for the target's dlopen, which runs
// the library's constructors.
const DlopenTimeout = 10 * time.Second

// loadsLibrary is why the target is halted for that.
const loadsLibrary = "a thread loads a library"

// openTries is how often a thread is looked for that can call dlopen: about a
// second.
const openTries = 30

// loadLibraries makes a program in C load what a module was linked with and it has
// not loaded, and says what that was. The target is not changed if it is refused
// before the first of them is there.
func (e *Engine) loadLibraries(ctx context.Context, m *module.Module, path string) (found []finding.Finding, err error) {
	c, ok := e.lang.(*cTarget)
	if !ok || m.Shared == nil {
		return nil, nil
	}
	if err := e.checkIdentity(m, path); err != nil {
		return nil, err
	}
	if e.arena != nil {
		if err := e.notForked(OpLoad, fmt.Sprint(e.reg.Sequence+1)); err != nil {
			return nil, err
		}
	}
	set, err := c.Objects()
	if err != nil {
		return nil, err
	}
	missing := clink.Missing(m, set)
	if len(missing) == 0 || !clink.Loadable(missing) {
		return nil, nil // binding will say
	}
	for _, name := range missing {
		file := c.search(name, m.Shared.SearchPath, filepath.Dir(path))
		if err := c.dlopen(ctx, name, file); err != nil {
			return nil, stayed(err, found)
		}
		found = append(found, finding.Finding{Code: finding.LibraryLoaded, Severity: finding.Info,
			Message: name + " was loaded into the program by its own dlopen, and stays there when the patch is unloaded"})
	}
	return found, nil
}

// stayed adds to a refusal what was loaded before it.
func stayed(err error, libraries []finding.Finding) error {
	r := finding.As(err)
	if r == nil || len(libraries) == 0 {
		return err
	}
	return &finding.Refusal{Findings: append(append([]finding.Finding{}, r.Findings...), libraries...)}
}

// search returns where the module says that a library is, if it is there for the
// target; else its name, which the target's dynamic linker searches its own way.
func (c *cTarget) search(name string, dirs []string, origin string) string {
	if strings.Contains(name, "/") {
		return name
	}
	for _, dir := range dirs {
		dir = strings.NewReplacer("${ORIGIN}", origin, "$ORIGIN", origin).Replace(dir)
		if file := filepath.Join(dir, name); filepath.IsAbs(dir) && c.p.Sees(file) {
			return file
		}
	}
	return name
}

// dlopen makes a thread of the target load a library, and waits until it has.
func (c *cTarget) dlopen(ctx context.Context, name, file string) error {
	library, err := c.Library()
	if err != nil {
		return err
	}
	call := process.Dlopen{Dlopen: library.Dlopen, Dlerror: library.Dlerror, Errno: library.Errno, Path: file}
	var d *process.Diversion
	err = c.e.haltUntil(ctx, loadsLibrary, openTries, func(h *process.Halt) (retry *finding.Refusal, err error) {
		if !h.WasRunning() {
			return finding.Refuse(finding.Busy, name+" can't be loaded while the program is stopped", "it is loaded by a thread that waits"), nil
		}
		if retry, err = c.e.quiet(h); retry != nil || err != nil {
			return retry, err
		}
		c.Know(&c.e.reg.Runtime)
		thread, retry, err := c.Opener(h, library)
		if retry != nil || err != nil {
			return retry, err
		}
		d, err = h.Divert(thread, call)
		return nil, err
	})
	if err != nil {
		return err
	}
	return c.awaitDlopen(ctx, d, name)
}

// awaitDlopen waits for the end of a call and gives its memory back. The thread
// needs nobody for that.
func (c *cTarget) awaitDlopen(ctx context.Context, d *process.Diversion, name string) error {
	ctx, cancel := context.WithTimeout(ctx, DlopenTimeout)
	defer cancel()
	begun := time.Now()
	var handle uint64
	var text string
	for done := false; !done; {
		var err error
		if handle, text, done, err = d.Result(); err != nil {
			return err
		}
		if done {
			break
		}
		select {
		case <-ctx.Done():
			return finding.Refuse(finding.Busy,
				fmt.Sprintf("thread %d is still loading %s after %v: a constructor of the library waits, or another thread loads or unloads one; it goes on with that, and then with what it did", d.Thread, name, time.Since(begun).Round(time.Millisecond)),
				"load the module again when the library is loaded")
		case <-time.After(time.Millisecond):
		}
	}
	c.release(d)
	if handle == 0 {
		return finding.Refuse(finding.SymbolUnresolved, "the program can't load "+name+", with which the module was linked: "+text,
			"put the library where the program's dynamic linker finds it, or name its directory in the module (gcc -Wl,-rpath,DIR)")
	}
	return nil
}

// release gives the memory of a call back. If it can't be seen that the thread has
// left it, it stays: nobody uses it, and it does no harm.
func (c *cTarget) release(d *process.Diversion) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = c.e.haltUntil(ctx, loadsLibrary, fewTries, func(h *process.Halt) (retry *finding.Refusal, err error) {
		c.Know(&c.e.reg.Runtime)
		left, err := c.Left(h, d)
		if err == nil && !left {
			return finding.Refuse(finding.Busy, "the thread is there yet", ""), nil
		}
		if err == nil {
			err = d.Free(h)
		}
		return nil, err
	})
}
