// Package edits_test throws every kind of edit at a live program: each is
// built into a module, switched on and off in the program while many goroutines
// call what it changes and the garbage collector works, and must answer what
// the new source says, then what the old one says, and never anything else.
package edits_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/build"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/internal/targettest"
	"github.com/darn-dev/darn/patcher/process"
)

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if scratch, err = os.MkdirTemp("", "edits-test-"); err != nil {
			panic(err)
		}
		defer os.RemoveAll(scratch)
		return targettest.Run(m)
	}())
}

// only restricts the edits, for work on one of them.
var only = flag.String("edits", "", "try only the edits whose names match the `regexp`")

// scratch holds what the tests share.
var scratch string

// edit is a change of the program's source. All that is built at once is built
// from the same base, and lives in one process.
type edit struct {
	name string
	// changes are pairs of old and new text, by file. A name that begins with
	// std/ is that of a file of the standard library.
	changes map[string][]string
	// file of testdata is added to package main, as new code.
	file string
	// answers are what changes, each of a question that is asked all the time.
	answers []answer
	// story, if not nil, asks questions that are to be asked at the right time.
	// It begins when the module is loaded, and ends with it deactivated.
	story func(r *run)
	// mixes tells that a single answer comes of several calls, of which some may
	// run old and some new code.
	mixes bool
	// stays tells that the module can't be unloaded, although nothing runs it.
	stays bool
	// refused is the code of the build's refusal, and refusal words of it.
	refused finding.Code
	refusal string
}

// answer is what a question is answered before and after an edit. In after,
// LINE(text) stands for the number of the line with the text in the new source.
type answer struct{ question, before, after string }

// program is the target's source and what was built of it.
type program struct {
	dir, exe, darn string
	std            string // the source of the standard library
	env            []string
}

var prepare = sync.OnceValues(func() (*program, error) {
	p := &program{dir: filepath.Join(scratch, "edits"), darn: filepath.Join(scratch, "darn")}
	root, err := filepath.Abs("../..")
	if err != nil {
		return nil, err
	}
	if err := os.CopyFS(p.dir, os.DirFS(filepath.Join(root, "testdata/targets/edits"))); err != nil {
		return nil, err
	}
	// The builds are those of the command, not of this process: they are many,
	// and the race detector, which the tests of package build run under, has
	// nothing to find in them here.
	p.exe = filepath.Join(scratch, "program")
	for dir, out := range map[string]string{root: p.darn, p.dir: p.exe} {
		cmd := exec.Command("go", "build", "-buildvcs=false", "-o", out, ".")
		cmd.Dir = dir
		if words, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("building in %s: %w\n%s", dir, err, words)
		}
	}
	out, err := exec.Command("go", "env", "GOCACHE", "GOROOT").Output()
	if err != nil {
		return nil, err
	}
	cache, root, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	p.env = append(os.Environ(), "GOCACHE="+cache, "XDG_CACHE_HOME="+filepath.Join(scratch, "cache"))
	p.std = filepath.Join(root, "src")
	return p, nil
})

// source returns a file of the program, or of the standard library.
func (p *program) source(file string) string {
	if rest, ok := strings.CutPrefix(file, "std/"); ok {
		return filepath.Join(p.std, rest)
	}
	return filepath.Join(p.dir, file)
}

// module is what comes of an edit.
type module struct {
	edit  *edit
	dir   string
	path  string
	err   error
	files map[string]string // new source, by the name of the file
	build.Result
}

// build makes a module of an edit.
func (p *program) build(ctx context.Context, e *edit) *module {
	m := &module{edit: e, files: map[string]string{}}
	m.err = func() (err error) {
		if m.dir, err = os.MkdirTemp(scratch, "module-"); err != nil {
			return err
		}
		replace := map[string]string{}
		put := func(file, path, content string) error {
			m.files[filepath.Base(file)] = content
			replace[path] = filepath.Join(m.dir, strings.ReplaceAll(file, "/", "_"))
			return os.WriteFile(replace[path], []byte(content), 0o644)
		}
		for file, pairs := range e.changes {
			data, err := os.ReadFile(p.source(file))
			if err != nil {
				return err
			}
			text := string(data)
			for i := 0; i < len(pairs); i += 2 {
				if strings.Count(text, pairs[i]) == 0 {
					return fmt.Errorf("%s has no %q", file, pairs[i])
				}
				text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
			}
			if err := put(file, p.source(file), text); err != nil {
				return err
			}
		}
		if e.file != "" {
			data, err := os.ReadFile(filepath.Join("testdata", e.file))
			if err != nil {
				return err
			}
			if err := put(e.file, filepath.Join(p.dir, e.file), string(data)); err != nil {
				return err
			}
		}
		overlay, err := json.Marshal(map[string]any{"Replace": replace})
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(m.dir, "overlay.json"), overlay, 0o644); err != nil {
			return err
		}
		m.path = filepath.Join(m.dir, "fix.so")
		cmd := exec.CommandContext(ctx, p.darn, "build", "--json", "--target", p.exe, "--overlay", filepath.Join(m.dir, "overlay.json"), "-o", m.path)
		cmd.Dir, cmd.Env = p.dir, p.env
		out, err := cmd.Output()
		if err == nil {
			return json.Unmarshal(out, &m.Result)
		}
		var refusal finding.Refusal
		if json.Unmarshal(out, &refusal) == nil && len(refusal.Findings) > 0 {
			return &refusal
		}
		if failed, ok := errors.AsType[*exec.ExitError](err); ok {
			return fmt.Errorf("%w: %s", err, failed.Stderr)
		}
		return err
	}()
	return m
}

// buildAll makes modules of all edits, some at a time. It must be called while
// the process traces nothing.
func buildAll(t *testing.T, edits []edit) []*module {
	t.Helper()
	p, err := prepare()
	if err != nil {
		t.Fatal(err)
	}
	modules := make([]*module, len(edits))
	modules[0] = p.build(t.Context(), &edits[0]) // fills the cache of bases
	var wg sync.WaitGroup
	next := make(chan int)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := range next {
				modules[i] = p.build(t.Context(), &edits[i])
			}
		})
	}
	for i := 1; i < len(edits); i++ {
		next <- i
	}
	close(next)
	wg.Wait()
	return modules
}

// live is a running program and the engine that patches it.
type live struct {
	t      *testing.T
	target *targettest.Target
	e      *patcher.Engine
	detach func()
	conn   net.Conn
	in     *bufio.Reader
}

// start starts the program and attaches to it.
func start(t *testing.T, env ...string) *live {
	t.Helper()
	p, err := prepare()
	if err != nil {
		t.Fatal(err)
	}
	l := &live{t: t, target: targettest.Start(t, targettest.Command{Path: p.exe, Env: append([]string{"GOGC=20", "PROFILES=" + scratch}, env...)})}
	if l.conn, err = net.Dial("tcp", l.target.Line("addr ")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.conn.Close() })
	l.in = bufio.NewReader(l.conn)
	l.attach()
	return l
}

func (l *live) attach() {
	l.t.Helper()
	q, err := process.Attach(l.target.Pid())
	if err != nil {
		l.t.Fatal(err)
	}
	if l.e, err = patcher.Open(q); err != nil {
		q.Close()
		l.t.Fatal(err)
	}
	l.detach = sync.OnceFunc(func() {
		l.e.Close()
		if err := q.Close(); err != nil {
			l.t.Errorf("detaching: %v", err)
		}
	})
	l.t.Cleanup(l.detach)
}

// on returns the same program for a subtest.
func (l *live) on(t *testing.T) *live {
	here := *l
	here.t = t
	return &here
}

// tell sends the program a line and returns its answer.
func (l *live) tell(line string) string {
	l.t.Helper()
	if err := l.conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		l.t.Fatal(err)
	}
	if _, err := fmt.Fprintln(l.conn, line); err != nil {
		l.t.Fatalf("%s: %v\n%s", line, err, l.ending())
	}
	reply, err := l.in.ReadString('\n')
	if err == nil {
		reply, err = strconv.Unquote(strings.TrimSuffix(reply, "\n"))
	}
	if err != nil {
		l.t.Fatalf("%s: %v\n%s", line, err, l.ending())
	}
	return reply
}

// ending returns the end of the program's output.
func (l *live) ending() string {
	const most = 6000
	out := l.target.Output()
	return out[:min(most, len(out))]
}

func (l *live) ask(question string) string {
	l.t.Helper()
	return l.tell("ask " + question)
}

// later asks without waiting for the answer, over a connection of its own.
func (l *live) later(question string) <-chan string {
	l.t.Helper()
	conn, err := net.Dial("tcp", l.conn.RemoteAddr().String())
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { conn.Close() })
	c := make(chan string, 1)
	go func() {
		fmt.Fprintln(conn, "ask "+question)
		reply, err := bufio.NewReader(conn).ReadString('\n')
		if err == nil {
			reply, err = strconv.Unquote(strings.TrimSuffix(reply, "\n"))
		}
		if err != nil {
			reply = err.Error()
		}
		c <- reply
	}()
	return c
}

func (l *live) expect(question, want string) {
	l.t.Helper()
	if got := l.ask(question); got != want {
		l.t.Fatalf("%s answers\n%s, want\n%s", question, got, want)
	}
}

// steadily fails the test unless all callers are answered so from now on, and
// were answered this or other before.
func (l *live) steadily(question, want, other string) {
	l.t.Helper()
	mixed, pure, _ := strings.Cut(l.tell("seen "+question), "\x01")
	for _, got := range strings.Split(mixed, "\x00") {
		if got != "" && got != want && got != other {
			l.t.Fatalf("%s was answered\n%s, want\n%s or\n%s", question, got, want, other)
		}
	}
	if pure != want {
		l.t.Fatalf("%s is answered\n%q, want\n%q", question, pure, want)
	}
}

func (l *live) load(m *module) *patcher.Patch {
	l.t.Helper()
	p, _, err := l.e.Load(l.t.Context(), m.path)
	if err != nil {
		l.t.Fatal(err)
	}
	return p
}

func (l *live) activate(p *patcher.Patch) {
	l.t.Helper()
	if _, _, err := l.e.Activate(l.t.Context(), p.ID, patcher.ActivateOptions{}); err != nil {
		l.t.Fatal(err)
	}
}

func (l *live) deactivate(p *patcher.Patch) {
	l.t.Helper()
	if _, _, err := l.e.Deactivate(l.t.Context(), p.ID); err != nil {
		l.t.Fatal(err)
	}
}

// unload takes the module out, which others may have to let go of first.
func (l *live) unload(p *patcher.Patch) {
	l.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		_, err := l.e.Unload(l.t.Context(), p.ID)
		if err == nil {
			return
		}
		if code := finding.CodeOf(err); code != finding.InUse && code != finding.GCTimeout || time.Now().After(deadline) {
			l.t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// run is one edit's module in the live program.
type run struct {
	*live
	module *module
	patch  *patcher.Patch
}

func (r *run) on()  { r.t.Helper(); r.activate(r.patch) }
func (r *run) off() { r.t.Helper(); r.deactivate(r.patch) }

// lines replaces LINE(text) by the number of the line that has the text.
func (m *module) lines(t *testing.T, s string) string {
	t.Helper()
	for {
		before, rest, found := strings.Cut(s, "LINE(")
		if !found {
			return s
		}
		text, after, _ := strings.Cut(rest, ")")
		n := 0
		for _, file := range slices.Sorted(maps.Keys(m.files)) {
			if i := strings.Index(m.files[file], text); i >= 0 {
				n = 1 + strings.Count(m.files[file][:i], "\n")
			}
		}
		if n == 0 {
			t.Fatalf("the new source has no %q", text)
		}
		s = before + strconv.Itoa(n) + after
	}
}

// try takes a module through its life in the program.
func (l *live) try(m *module) {
	l.t.Helper()
	e := m.edit
	for _, a := range e.answers {
		l.tell("seen " + a.question) // since the last time
		l.expect(a.question, a.before)
	}
	r := &run{l, m, l.load(m)}
	defer func() {
		if l.t.Failed() && l.target.Alive() {
			_, _, _ = l.e.Deactivate(l.t.Context(), r.patch.ID)
		}
	}()
	for _, a := range e.answers {
		l.steadily(a.question, a.before, a.before)
	}
	if e.story != nil {
		e.story(r)
	}
	if len(e.answers) > 0 {
		for range 2 {
			r.on()
			for _, a := range e.answers {
				after := m.lines(l.t, a.after)
				l.expect(a.question, after)
				if e.mixes {
					l.tell("seen " + a.question)
				}
				l.steadily(a.question, after, a.before)
			}
			r.off()
			for _, a := range e.answers {
				l.expect(a.question, a.before)
				if e.mixes {
					l.tell("seen " + a.question)
				}
				l.steadily(a.question, a.before, m.lines(l.t, a.after))
			}
		}
	}
	if e.stays {
		if _, err := l.e.Unload(l.t.Context(), r.patch.ID); finding.CodeOf(err) != finding.InUse {
			l.t.Errorf("unload says %v", err)
		}
		return
	}
	l.unload(r.patch)
	for _, a := range e.answers {
		l.steadily(a.question, a.before, a.before)
	}
}

func TestEveryEditWorksInALiveProgram(t *testing.T) {
	pattern, err := regexp.Compile(*only)
	if err != nil {
		t.Fatal(err)
	}
	modules := buildAll(t, slices.DeleteFunc(edits, func(e edit) bool { return !pattern.MatchString(e.name) }))
	l := start(t, "GODEBUG=clobberfree=1")
	for _, m := range modules {
		t.Run(m.edit.name, func(t *testing.T) {
			if m.edit.refused != "" {
				if finding.CodeOf(m.err) != m.edit.refused || !strings.Contains(m.err.Error(), m.edit.refusal) {
					t.Errorf("the build says %v", m.err)
				}
				return
			}
			if m.err != nil {
				t.Fatal(m.err)
			}
			if !l.target.Alive() {
				l.detach()
				l = start(l.t, "GODEBUG=clobberfree=1")
			}
			l.on(t).try(m)
		})
	}
	l.target.MustLive()
}
