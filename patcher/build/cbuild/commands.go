package cbuild

import (
	"bytes"
	"context"
	"debug/dwarf"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/darn-dev/darn/patcher/loaded"
)

// command is how a source file is compiled.
type command struct {
	dir      string
	compiler string
	flags    []string
	file     string // absolute path of the source
	spelled  string // how the command names it
}

// readCommands reads a compilation database (compile_commands.json, as clang,
// CMake, Meson and Bear have it).
func readCommands(path string) ([]command, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var entries []struct {
		Directory, File, Command string
		Arguments                []string
	}
	if err := json.Unmarshal(data, &entries); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var commands []command
	seen := map[string]bool{}
	for _, e := range entries {
		args := e.Arguments
		if len(args) == 0 {
			args = splitCommand(e.Command)
		}
		c := command{dir: e.Directory, spelled: e.File}
		if !filepath.IsAbs(c.dir) {
			if c.dir, err = filepath.Abs(filepath.Join(filepath.Dir(path), c.dir)); err != nil {
				return nil, err
			}
		}
		c.file = c.path(e.File)
		if seen[c.file] || !IsSource(c.file) || len(args) == 0 {
			continue
		}
		seen[c.file] = true
		c.take(args)
		commands = append(commands, c)
	}
	if len(commands) == 0 {
		return nil, fmt.Errorf("%s: it has no source file of C or C++", path)
	}
	return commands, nil
}

func (c *command) path(name string) string {
	if filepath.IsAbs(name) {
		return filepath.Clean(name)
	}
	return filepath.Join(c.dir, name)
}

// splitCommand splits a command as a shell does, but for variables.
func splitCommand(line string) (args []string) {
	var word []byte
	inWord, quote := false, byte(0)
	for i := 0; i < len(line); i++ {
		switch b := line[i]; {
		case b == '\\' && quote != '\'' && i+1 < len(line):
			i++
			word, inWord = append(word, line[i]), true
		case quote != 0 && b == quote:
			quote = 0
		case quote == 0 && (b == '"' || b == '\''):
			quote, inWord = b, true
		case quote == 0 && (b == ' ' || b == '\t' || b == '\n'):
			if inWord {
				args = append(args, string(word))
			}
			word, inWord = nil, false
		default:
			word, inWord = append(word, b), true
		}
	}
	if inWord {
		args = append(args, string(word))
	}
	return args
}

// launchers start compilers.
var launchers = []string{"ccache", "sccache", "distcc", "icecc", "env"}

// take takes over the compiler and those of its flags that say how the code is to
// be; not where to write it, nor what may be made of it later.
func (c *command) take(args []string) {
	for len(args) > 1 && slices.Contains(launchers, filepath.Base(args[0])) {
		args = args[1:]
	}
	c.compiler = args[0]
	withValue := []string{"-o", "-MF", "-MT", "-MQ", "-MJ"}
	for i := 1; i < len(args); i++ {
		a := args[i]
		switch {
		case slices.Contains(withValue, a):
			i++
		case a == "-c", a == "--", strings.HasPrefix(a, "-M"), strings.HasPrefix(a, "-o"), strings.HasPrefix(a, "-Wp,-M"),
			strings.HasPrefix(a, "-flto"), strings.HasPrefix(a, "-Werror"), strings.HasPrefix(a, "-save-temps"), a == "-gsplit-dwarf":
		case !strings.HasPrefix(a, "-") && c.path(a) == c.file:
			c.spelled = a
		default:
			c.flags = append(c.flags, a)
		}
	}
}

// pathFlags are flags that have a path, apart or joined.
var pathFlags = []string{"-I", "-isystem", "-iquote", "-idirafter", "-include", "-imacros", "-isysroot", "--sysroot="}

// in returns the command as it is in a copy of the tree at root; what the copy
// does not have stays what it is.
func (c *command) in(root, tree string) command {
	if root == tree || root == "" {
		return *c
	}
	moved := func(path string) string {
		if rel, err := filepath.Rel(root, path); err == nil && rel != ".." && !strings.HasPrefix(rel, "../") {
			if to := filepath.Join(tree, rel); exists(to) {
				return to
			}
		}
		return path
	}
	n := *c
	n.file, n.dir = moved(c.file), moved(c.dir)
	n.flags = nil
	for i := 0; i < len(c.flags); i++ {
		a := c.flags[i]
		flag, value := "", a
		for _, f := range pathFlags {
			if rest, ok := strings.CutPrefix(a, f); ok {
				flag, value = f, rest
				break
			}
		}
		switch {
		case flag == "":
			n.flags = append(n.flags, a)
		case value == "" && i+1 < len(c.flags):
			i++
			n.flags = append(n.flags, flag, moved(c.path(c.flags[i])))
		default:
			n.flags = append(n.flags, flag+moved(c.path(value)))
		}
	}
	return n
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// compile compiles a source file to an object with a section for each function
// and variable. What __FILE__ says is what it says in the program.
func (c *command) compile(ctx context.Context, source, out string, more []string) error {
	args := slices.Concat(c.flags, more, []string{"-ffunction-sections", "-fdata-sections", "-fno-common", "-fno-lto", "-fno-debug-types-section", "-g", "-c", "-o", out})
	if c.path(c.spelled) == source {
		source = c.spelled
	} else {
		args = append(args, "-fmacro-prefix-map="+source+"="+c.spelled, "-iquote", filepath.Dir(c.file))
	}
	return run(ctx, c.dir, c.compiler, append(args, source)...)
}

// includes returns the absolute paths of all files that the source includes.
func (c *command) includes(ctx context.Context) ([]string, error) {
	rule, err := output(ctx, c.dir, c.compiler, append(slices.Clone(c.flags), "-M", "-MT", "x", c.file)...)
	if err != nil {
		return nil, err
	}
	_, list, _ := strings.Cut(rule, ":")
	var paths []string
	for _, name := range splitCommand(strings.ReplaceAll(list, "\\\n", " ")) {
		paths = append(paths, c.path(name))
	}
	return paths, nil
}

// run runs a program that says nothing if it succeeds.
func run(ctx context.Context, dir, name string, args ...string) error {
	_, err := output(ctx, dir, name, args...)
	return err
}

// epoch makes __DATE__ and __TIME__ the same in everything that is compiled.
var epoch = fmt.Sprint("SOURCE_DATE_EPOCH=", time.Now().Unix())

func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PWD="+dir, epoch, "LC_ALL=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(complaint.Bytes()))
	}
	return out.String(), nil
}

// findDatabase looks for a compilation database as clangd does: beside a file, in
// a folder build there, and so on upwards.
func findDatabase(file string) string {
	for dir := filepath.Dir(file); ; dir = filepath.Dir(dir) {
		for _, path := range []string{filepath.Join(dir, "compile_commands.json"), filepath.Join(dir, "build", "compile_commands.json")} {
			if exists(path) {
				return path
			}
		}
		if dir == filepath.Dir(dir) {
			return ""
		}
	}
}

// recorded returns the command by which the program's debugging information says
// that a source file was compiled; ok is false if it says nothing. What it does
// not have are the folders of headers and macros.
func recorded(program *loaded.Object, file string) (c command, ok bool) {
	unit := unitOf(program, file)
	if unit == nil {
		return c, false
	}
	producer, _ := unit.Val(dwarf.AttrProducer).(string)
	dir, _ := unit.Val(dwarf.AttrCompDir).(string)
	name, _ := unit.Val(dwarf.AttrName).(string)
	c = command{dir: dir, spelled: name, file: file, compiler: compiler(file)}
	if !exists(dir) {
		c.dir = filepath.Dir(file)
	}
	words := strings.Fields(producer)
	if strings.Contains(producer, "clang version") {
		if c.compiler == "cc" || c.compiler == "c++" {
			c.compiler = map[string]string{"cc": "clang", "c++": "clang++"}[c.compiler]
		}
		if i := slices.Index(words, "clang"); i >= 0 { // -grecord-command-line
			words = words[i:]
		}
	} else if len(words) > 2 && words[0] == "GNU" {
		standard := strings.ToLower(words[1]) // C17, C++14
		c.flags = append(c.flags, "-std=gnu"+strings.TrimPrefix(standard, "c"))
		if strings.HasPrefix(standard, "c++") {
			c.flags[len(c.flags)-1] = "-std=gnu++" + strings.TrimPrefix(standard, "c++")
		}
	}
	known := false
	for _, w := range words {
		if strings.HasPrefix(w, "-") {
			known = known || strings.HasPrefix(w, "-O") || strings.HasPrefix(w, "-m")
			c.flags = append(c.flags, w)
		}
	}
	return c, known
}

// unitOf returns the compilation unit of a source file in a program's debugging
// information, nil if there is none.
func unitOf(program *loaded.Object, file string) *dwarf.Entry {
	d := program.DWARF()
	if d == nil {
		return nil
	}
	var found *dwarf.Entry
	r := d.Reader()
	for {
		e, err := r.Next()
		if err != nil || e == nil {
			return found
		}
		if e.Tag == dwarf.TagCompileUnit {
			name, _ := e.Val(dwarf.AttrName).(string)
			dir, _ := e.Val(dwarf.AttrCompDir).(string)
			if name == file || filepath.Join(dir, name) == file {
				return e
			}
			if filepath.Base(name) == filepath.Base(file) && found == nil {
				found = e
			}
		}
		r.SkipChildren()
	}
}

// producer is what compiled the source file in a program, "" if that is not known.
func producer(program *loaded.Object, file string) string {
	if unit := unitOf(program, file); unit != nil {
		text, _ := unit.Val(dwarf.AttrProducer).(string)
		return text
	}
	return ""
}

// independent tells whether the flags make code that may be anywhere.
func (c *command) independent() bool {
	is := false
	for _, f := range c.flags {
		switch f {
		case "-fPIC", "-fpic", "-fPIE", "-fpie":
			is = true
		case "-fno-pic", "-fno-PIC", "-fno-pie", "-fno-PIE":
			is = false
		}
	}
	return is
}

// accepts tells whether the compiler knows a flag.
func (c *command) accepts(ctx context.Context, flag string) bool {
	key := c.compiler + " " + flag
	if known, ok := accepted.Load(key); ok {
		return known.(bool)
	}
	ok := run(ctx, c.dir, c.compiler, flag, "-Werror", "-fsyntax-only", "-x", "c", "/dev/null") == nil
	if ctx.Err() == nil {
		accepted.Store(key, ok)
	}
	return ok
}

// accepted are the answers of accepts.
var accepted sync.Map
