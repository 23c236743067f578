package cbuild

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"debug/elf"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/ianlancetaylor/demangle"

	"github.com/darn-dev/darn/patcher/build/cobject"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/loaded"
	"github.com/darn-dev/darn/patcher/module"
)

// ChangeOptions say which edit to build.
type ChangeOptions struct {
	// Source is the edited file; "" takes all changed sources of a tree.
	Source string
	// Base is what the program was built from: a file (the old Source), a git
	// revision, or a copy of the tree. New is the edited tree; "" is the one that
	// Source or the compilation database is about.
	Base, New string
	// CompileCommands is a compilation database; "" looks for one near Source.
	CompileCommands string
	Target          string   // the program's executable
	Pid             int      // or a process of it
	Output          string   // "": the source's or the tree's name with .so, in the working folder
	Flags           []string // more flags for the compiler
	// Sign is the key that the module is signed with, nil for none.
	Sign ed25519.PrivateKey
	// Progress, if not nil, is told what is being done and how much of it is.
	Progress func(stage string, done, total int)
}

// change is the state of one BuildChange.
type change struct {
	ChangeOptions
	dir     string // for files that are disposed of
	program *program
	// libraries are those that the process has loaded.
	libraries []*loaded.Object
	base      string // in words
	baseTree  string // "" for a single file
	units     []unit
	objects   []*object
	findings  []finding.Finding
	notes     []string
	stages    int
}

// object is a unit that was compiled.
type object struct {
	*unit
	*cobject.Comparison
	ran           *cobject.Object // the base, as the program was compiled
	before, after *cobject.Declared
	// functions and variables are what of the program the sections of Base are.
	functions, variables map[int]*found
	replaced             map[int]module.Function // by section of New
	skipped              map[int]bool            // sections that changed and are not in the module
	include              map[int]bool
	wanted               []int // sections that other objects need
}

// BuildChange builds a module from an edit of source of C or C++: it compiles what
// the edit concerns as it was and as it is, checks that what was is what runs, and
// takes the functions that differ, with what they need, into the module. Refusals
// are those of Build, and type-layout-changed, signature-changed, global-changed,
// method-set-changed and init-changed for what new code can't do in a program that
// runs, text-mismatch if the program was built from something else, no-change. What
// the compiler says is an error of its own.
func BuildChange(ctx context.Context, o ChangeOptions) (*Result, error) {
	c := &change{ChangeOptions: o}
	if c.Progress == nil {
		c.Progress = func(string, int, int) {}
	}
	var err error
	if c.dir, err = os.MkdirTemp("", "darn-build-"); err != nil {
		return nil, err
	}
	defer os.RemoveAll(c.dir)
	for _, step := range []struct {
		stage string
		f     func(context.Context) error
	}{
		{"reading the target", c.open}, {"finding what changed", c.choose}, {"compiling", c.compile},
		{"comparing the base with the edited source", c.compare}, {"comparing the base with the target", c.match}, {"choosing what the module needs", c.reach},
	} {
		c.stage(step.stage)
		if err := step.f(ctx); err != nil {
			return nil, err
		}
	}
	c.stage("linking the module")
	return c.link(ctx)
}

func (c *change) stage(words string) {
	const all = 7
	c.Progress(words, c.stages, all)
	c.stages = min(c.stages+1, all)
}

func (c *change) open(context.Context) error {
	target := c.Target
	if c.Pid != 0 {
		target = fmt.Sprintf("/proc/%d/exe", c.Pid)
	}
	set, err := loaded.Files(target, c.Pid)
	if err != nil {
		return err
	}
	c.program, c.libraries = &program{Object: set.Objects[0]}, set.Objects[1:]
	return nil
}

// choose finds the units that the edit concerns.
func (c *change) choose(ctx context.Context) (err error) {
	for _, path := range []*string{&c.Source, &c.New, &c.CompileCommands} {
		if *path == "" {
			continue
		}
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
		if _, err := os.Stat(*path); err != nil {
			return err
		}
	}
	near := cmp.Or(c.Source, c.CompileCommands, filepath.Join(c.New, "x"))
	if c.CompileCommands == "" {
		c.CompileCommands = findDatabase(near)
	}
	var commands []command
	if c.CompileCommands != "" {
		if commands, err = readCommands(c.CompileCommands); err != nil {
			return err
		}
		c.note("the compiler's flags are those of " + c.CompileCommands)
	}
	base, err := filepath.Abs(c.Base)
	if err != nil {
		return err
	}
	info, err := os.Stat(base)
	switch {
	case err == nil && info.Mode().IsRegular():
		if c.Source == "" {
			return errors.New("--base is a file: give the edited one too")
		}
		c.base = "the file " + base
		return c.pair(commands, base, c.Source)
	case err == nil && info.IsDir():
		c.base = "the folder " + base
	default:
		dir := cmp.Or(c.New, filepath.Dir(near))
		if !isRevision(ctx, dir, c.Base) {
			return finding.Refuse(finding.TextMismatch, fmt.Sprintf("--base %q is not a file, a folder, or a revision of a git repository that %s is in", c.Base, dir),
				"give the source that the program was built from")
		}
		base = filepath.Join(c.dir, "base")
		root, err := extract(ctx, dir, c.Base, base)
		if err != nil {
			return err
		}
		if c.New == "" {
			if real, err := filepath.EvalSymlinks(filepath.Dir(near)); err == nil && c.Source != "" {
				c.Source = filepath.Join(real, filepath.Base(c.Source))
			}
			c.New = root
		}
		c.base = "git revision " + c.Base
	}
	if len(commands) == 0 {
		return c.alone(base)
	}
	trees := []string{base}
	if c.New != "" {
		trees = []string{c.New, base}
	}
	root := rootOf(commands, trees...)
	if c.New == "" {
		c.New = root
		if root == base || root == "" {
			return finding.Refuse(finding.NoChange, fmt.Sprintf("%s is about %s: there is no edited source", c.CompileCommands, cmp.Or(root, "other files")), "give the edited tree with --new")
		}
	}
	c.baseTree = base
	var left []string
	c.units, left, err = unitsOf(ctx, commands, root, base, c.New, c.Source)
	for _, rel := range left {
		f := finding.Finding{Code: finding.UnsupportedBuild, Severity: finding.Warning, Source: filepath.Join(c.New, rel),
			Message: "the file changed too, and nothing says how it is compiled: it is not in the module", Advice: "put it into compile_commands.json, if it is C or C++ of the program"}
		if c.Source != "" {
			f.Message, f.Advice = "the file changed too: other sources that include it stay what they are", "give the edited tree with --new instead of one file"
		}
		c.findings = append(c.findings, f)
	}
	return err
}

// alone chooses one source file of a tree without a compilation database.
func (c *change) alone(base string) error {
	if c.Source == "" {
		return finding.Refuse(finding.UnsupportedBuild, "there is no compile_commands.json, and so it is not known how the sources are compiled",
			"make one (cmake -DCMAKE_EXPORT_COMPILE_COMMANDS=1, meson, bear -- make) and give it with --compile-commands; or give one edited file")
	}
	tree := c.New
	if tree == "" || !within(c.Source, tree) {
		// The copy has the file at the longest end of its path.
		for tree = filepath.Dir(c.Source); ; tree = filepath.Dir(tree) {
			if rel, err := filepath.Rel(tree, c.Source); err == nil && exists(filepath.Join(base, rel)) || tree == filepath.Dir(tree) {
				break
			}
		}
	}
	rel, err := filepath.Rel(tree, c.Source)
	if err != nil || !exists(filepath.Join(base, rel)) {
		return finding.Refuse(finding.TextMismatch, fmt.Sprintf("%s has no %s", c.Base, filepath.Base(c.Source)), "give the old text of the file with --base")
	}
	return c.pair(nil, filepath.Join(base, rel), c.Source)
}

// pair is the unit of an old and a new file.
func (c *change) pair(commands []command, base, now string) error {
	x, ok := command{}, false
	for _, file := range []string{now, base} {
		for _, y := range commands {
			if !ok && y.file == file {
				x, ok = y, true
			}
		}
	}
	if !ok {
		for _, y := range commands {
			if !ok && filepath.Base(y.file) == filepath.Base(base) {
				x, ok = y, true
			}
		}
	}
	if !ok {
		if x, ok = recorded(c.program.Object, base); ok {
			c.note(fmt.Sprintf("the compiler's flags are those that the program's debugging information has for %s: %s %s", filepath.Base(base), x.compiler, strings.Join(x.flags, " ")))
		} else {
			x = command{dir: filepath.Dir(now), compiler: cmp.Or(x.compiler, compiler(now)), flags: []string{"-O2", "-g"}, file: base, spelled: base}
			c.note("the flags that the program was compiled with are not known: " + x.compiler + " -O2 -g are taken; give others behind \"--\", or a compilation database with --compile-commands")
		}
		x.flags = append(x.flags, "-I", filepath.Dir(base))
	}
	c.units = []unit{{name: filepath.Base(now), base: base, now: now, was: x, is: x, changed: []string{filepath.Base(now)}}}
	return nil
}

func (c *change) note(message string) { c.notes = append(c.notes, message) }

// compile compiles the units. Base and New are for comparing, and Ran for what the
// program has. A compiler that sees which registers a function leaves alone makes
// other code of its callers when that changes: not for comparing, as callers keep
// their registers in any case (see clink's bridges), and new code then relies on
// nothing. New code may be anywhere.
func (c *change) compile(ctx context.Context) error {
	const ran, base, now, kinds = 0, 1, 2, 3
	files := make([][kinds]*cobject.Object, len(c.units))
	var done atomic.Int32
	err := each(kinds*len(c.units), func(i int) error {
		u, kind := &c.units[i/kinds], i%kinds
		source, how := u.base, &u.was
		if kind == now {
			source, how = u.now, &u.is
		}
		if source == "" {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		flags := c.Flags
		if kind != ran {
			flags = slices.Clone(flags)
			for _, f := range []string{noSharing, mergeable} {
				if how.accepts(ctx, f) {
					flags = append(flags, f)
				}
			}
			if !how.independent() {
				flags = append(flags, "-fPIE")
			}
		}
		out := filepath.Join(c.dir, fmt.Sprintf("%d.o", i))
		if err := how.compile(ctx, source, out, flags); err != nil {
			return err
		}
		var err error
		files[i/kinds][kind], err = cobject.Open(out)
		c.Progress("compiling "+u.name, int(done.Add(1)), kinds*len(c.units))
		return err
	})
	if err != nil {
		return err
	}
	for i := range c.units {
		f := files[i]
		o := &object{
			unit: &c.units[i], Comparison: cobject.Compare(f[base], f[now]), ran: f[ran], before: &cobject.Declared{},
			functions: map[int]*found{}, variables: map[int]*found{}, replaced: map[int]module.Function{}, skipped: map[int]bool{},
		}
		if o.after, err = f[now].Declared(); err != nil {
			return err
		}
		if f[base] != nil {
			if o.before, err = f[base].Declared(); err != nil {
				return err
			}
		}
		c.objects = append(c.objects, o)
	}
	return nil
}

const (
	// noSharing is a flag by which gcc uses the registers of calls as the ABI has
	// it.
	noSharing = "-fno-ipa-ra"
	// mergeable is one by which it keeps strings apart without optimisation too, so
	// that they can be compared one by one.
	mergeable = "-fmerge-constants"
)

// compare refuses what an edit can't do in a program that runs.
func (c *change) compare(context.Context) error {
	var refused []finding.Finding
	add := func(f finding.Finding) {
		f.Severity = finding.Error
		if !slices.Contains(refused, f) {
			refused = append(refused, f)
		}
	}
	changed := false
	for _, o := range c.objects {
		for _, f := range cobject.TypeChanges(o.before, o.after) {
			add(f)
		}
		for _, now := range slices.Sorted(maps.Keys(o.Pairs)) {
			base := o.Pairs[now]
			name := o.New.Name(now)
			switch {
			case o.New.IsFunction(now):
				b, n := o.before.Functions[name], o.after.Functions[name]
				if b.Type != n.Type && b.Type != "" && n.Type != "" && !cobject.IsClone(name) {
					add(finding.Finding{Code: finding.SignatureChanged, Function: name, Source: n.Source,
						Message: fmt.Sprintf("the function is %s, and was %s: callers that the patch does not replace, as through pointers, call it as it was", n.Type, b.Type),
						Advice:  "make a new function under another name and call that"})
				}
			case o.New.IsVariable(now):
				if f, ok := o.variableChanged(now, base); ok {
					add(f)
				}
			}
		}
		if f, ok := o.initChanged(); ok {
			add(f)
		}
		changed = changed || len(o.Changed()) > 0
	}
	if len(refused) > 0 {
		return &finding.Refusal{Findings: append(refused, c.findings...)}
	}
	if !changed {
		r := finding.Refuse(finding.NoChange, "the edit changes no function: its code is what it was", "edit the source, or give the one that the program was built from with --base")
		r.Findings = append(r.Findings, c.findings...)
		return r
	}
	return nil
}

// variableChanged says how a variable that the program has differs.
func (o *object) variableChanged(now, base int) (f finding.Finding, changed bool) {
	name := o.New.Name(now)
	b, n := o.before.Variables[name], o.after.Variables[name]
	size, before := o.New.Sections[now].Size, o.Base.Sections[base].Size
	f = finding.Finding{Code: finding.GlobalChanged, Function: name, Source: n.Source, Advice: "make a new variable under another name"}
	people := demangle.Filter(name)
	switch {
	case strings.HasPrefix(name, "_ZTV"):
		f.Code, f.Message = finding.MethodSetChanged, "the "+people+" changed, and objects that live have the old one"
		f.Advice = "change the virtual functions that there are; restart the program for new ones"
	case strings.HasPrefix(name, "_ZTI") || strings.HasPrefix(name, "_ZTS"):
		f.Code, f.Message = finding.TypeLayoutChanged, "the "+people+" changed (its base classes did), and objects that live have the old one"
		f.Advice = "restart the program with a rebuilt one"
	case size != before:
		f.Message = fmt.Sprintf("the variable has %d bytes, and %d in the program", size, before)
	case b.Type != n.Type && b.Type != "" && n.Type != "":
		f.Message = fmt.Sprintf("the variable is %s, and %s in the program", n.Type, b.Type)
	default:
		f.Message = "the variable's initial value changed, and the program has the old one"
		f.Advice = "set it in a function that runs, or make a new variable under another name"
	}
	if size == before && (b.Type == n.Type || b.Type == "" || n.Type == "") && o.Same(now, base) {
		return f, false
	}
	return f, true
}

// initChanged tells whether what runs at the start of the program changed.
func (o *object) initChanged() (f finding.Finding, changed bool) {
	was := map[string]bool{}
	if o.Base != nil {
		for _, s := range o.Base.Constructors() {
			was[o.Base.Name(s)] = true
		}
	}
	for _, now := range o.New.Constructors() {
		name := o.New.Name(now)
		if base, paired := o.Pairs[now]; was[name] && paired && o.Same(now, base) && o.sameStart() {
			continue
		}
		return finding.Finding{Code: finding.InitChanged, Function: name, Source: o.after.Source(name),
			Message: "what runs before main changed (constructors, the initial values of C++ objects), and it has run",
			Advice:  "set new variables on first use, as in a static variable of a function"}, true
	}
	return f, false
}

// sameStart tells whether what initialises the variables of a file is the same.
func (o *object) sameStart() bool {
	for now, base := range o.Pairs {
		if strings.Contains(o.New.Name(now), "__static_initialization_and_destruction") && !o.Same(now, base) {
			return false
		}
	}
	return true
}

// find finds the functions and variables of a base object in the program. It
// returns the names of functions that are not the program's, and how many it has.
func (c *change) find(o *object) (mismatched []string, total int) {
	ran := cobject.Compare(o.ran, o.Base).Pairs
	learned := map[int]uint64{} // by the sections of ran
	for range 2 {               // the second time it is known where others are
		for base, section := range ran {
			if f := o.functions[base]; o.ran.IsFunction(section) && (f == nil || len(f.several) > 1) {
				o.functions[base] = c.program.function(o.ran, section, learned)
			}
		}
	}
	for i := range o.Base.Sections {
		switch {
		case o.Base.IsVariable(i):
			place := uint64(0)
			if section, ok := ran[i]; ok {
				place = learned[section]
			}
			o.variables[i] = c.program.variable(o.Base, i, place)
		case o.Base.IsFunction(i):
			if o.functions[i] == nil {
				o.functions[i] = &found{}
			}
			if f := o.functions[i]; f.symbol != nil {
				if total++; !f.matches {
					mismatched = append(mismatched, demangle.Filter(o.Base.Name(i)))
				}
			}
		}
	}
	return mismatched, total
}

// match checks that the base is what runs, and says which functions the module
// replaces.
func (c *change) match(context.Context) error {
	var refused []finding.Finding
	taken := map[uint64]bool{} // code of the program that is replaced
	for _, o := range c.objects {
		if o.Base == nil {
			continue
		}
		mismatched, total := c.find(o)
		for _, now := range o.Changed() {
			name := o.New.Name(now)
			f := o.functions[o.Pairs[now]]
			source := o.after.Source(name)
			switch {
			case f.symbol == nil && c.program.Stripped():
				refused = append(refused, finding.Finding{Code: finding.SymbolUnresolved, Severity: finding.Error, Function: name, Source: source,
					Message: "where the program has the function is not known: it is stripped", Advice: "install its debugging information, or keep its symbols"})
			case f.symbol == nil && c.libraryOf(name) != "":
				refused = append(refused, finding.Finding{Code: finding.UnsupportedTarget, Severity: finding.Error, Function: name, Source: source,
					Message: "the function is one of " + c.libraryOf(name) + ", and edits are built for the program itself only",
					Advice:  "give a file with the new functions alone, without --base"})
			case f.symbol == nil:
				o.skipped[now] = true
				c.findings = append(c.findings, finding.Finding{Code: finding.SymbolUnresolved, Severity: finding.Warning, Function: name, Source: source,
					Message: "the program does not have the function by itself (nothing calls it, or it is in all of its callers): it is not replaced",
					Advice:  "its callers in this file are, as far as they have it"})
			case name == "main":
				o.skipped[now] = true
				c.findings = append(c.findings, finding.Finding{Code: finding.NeverReturns, Severity: finding.Warning, Function: name, Source: source,
					Message: "main changed, and it runs: the program stays in the old one", Advice: "put what is to change into a function that main calls; restart the program if it matters"})
			case !f.matches:
				refused = append(refused, c.mismatch(o, name, source, f.why, total, mismatched))
			case len(f.several) > 1 && o.New.Symbols[o.New.Main(now)].Bind == elf.STB_LOCAL:
				return ambiguous(name, source, f.several)
			case taken[f.symbol.Addr]:
				o.skipped[now] = true // a copy of what is replaced
			default:
				taken[f.symbol.Addr] = true
				code, err := c.program.Code(f.symbol.Addr, f.symbol.Size)
				if err != nil {
					return err
				}
				o.replaced[now] = c.record(f.symbol, name, code, source, o.before.Source(name), o.Why(now))
			}
		}
		if len(mismatched) > 0 {
			c.findings = append(c.findings, finding.Finding{Code: finding.TextMismatch, Severity: finding.Warning, Source: o.base,
				Message: fmt.Sprintf("%d of %d functions of the file are not what the program has of them: %s", len(mismatched), total, shortList(mismatched)),
				Advice:  "the program was built from another source, by another compiler or with other flags; what is replaced was checked"})
		}
	}
	if len(refused) > 0 {
		return &finding.Refusal{Findings: append(refused, c.findings...)}
	}
	for _, o := range c.objects {
		if len(o.replaced) > 0 {
			return nil
		}
	}
	r := finding.Refuse(finding.NoChange, "no function of the running program changes", "see the warnings; restart the program with a rebuilt one")
	r.Findings = append(r.Findings, c.findings...)
	return r
}

// libraryOf returns the library that exports a function, "" if none does.
func (c *change) libraryOf(name string) string {
	for _, x := range c.libraries {
		for _, s := range x.Named(name) {
			if s.Dynamic && s.Type == elf.STT_FUNC {
				return x.Path
			}
		}
	}
	return ""
}

func shortList(names []string) string {
	const most = 5
	if len(names) > most {
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", len(names)-most)
	}
	return strings.Join(names, ", ")
}

// mismatch says that a function is not what the base says.
func (c *change) mismatch(o *object, name, source, why string, total int, mismatched []string) finding.Finding {
	f := finding.Finding{Code: finding.TextMismatch, Severity: finding.Error, Function: name, Source: source,
		Message: "the base is not what the program was built from, or not compiled so: " + why,
		Advice:  "give the source that it was built from with --base, and its flags with --compile-commands or behind \"--\""}
	ran, here := producer(c.program.Object, o.base), o.ran.Producer()
	switch {
	case strings.Contains(ran, "-flto"):
		f.Message += "; the program was linked with link-time optimisation, whose code can't be made again from one file"
		f.Advice = "give a file with the new functions alone, without --base"
	case ran != "" && compilerOf(ran) != compilerOf(here):
		f.Message += fmt.Sprintf("; the program was compiled by %s, the base by %s", compilerOf(ran), compilerOf(here))
		f.Advice = "install that compiler and name it by CC or CXX, or in compile_commands.json"
	case len(mismatched) < total:
		f.Message += fmt.Sprintf("; %d of %d functions of the file are the program's", total-len(mismatched), total)
	}
	if len(c.notes) > 0 {
		f.Message += "; " + strings.Join(c.notes, "; ")
	}
	return f
}

// compilerOf cuts the flags off what a compiler says of itself.
func compilerOf(producer string) string {
	name, _, _ := strings.Cut(producer, " -")
	return name
}

// reach decides what is in the module.
func (c *change) reach(context.Context) error {
	// What the objects define by name, for each other.
	defined := map[string]*object{}
	at := map[string]int{}
	for _, o := range c.objects {
		for i := range o.New.Sections {
			n := o.New.Main(i)
			if n == 0 || o.New.Symbols[n].Bind == elf.STB_LOCAL || !o.New.IsFunction(i) && !o.New.IsVariable(i) {
				continue
			}
			if name := o.New.Symbols[n].Name; defined[name] == nil {
				defined[name], at[name] = o, i
			}
		}
	}
	for again := true; again; {
		again = false
		for _, o := range c.objects {
			start := append(slices.Sorted(maps.Keys(o.replaced)), o.wanted...)
			o.include = o.New.Reach(start, func(section int) bool {
				_, replaced := o.replaced[section]
				return !replaced && c.inProgram(o, section) != nil
			}, func(name string) {
				d := defined[name]
				if c.program.external(name) != nil || d == nil || slices.Contains(d.wanted, at[name]) || d.include[at[name]] {
					return
				}
				d.wanted = append(d.wanted, at[name])
				again = true
			})
		}
	}
	return c.checkIncluded()
}

// inProgram returns what of the program a section of the new object is, nil for
// what the module has for itself.
func (c *change) inProgram(o *object, now int) *loaded.Symbol {
	base, paired := o.Pairs[now]
	switch {
	case !paired, strings.HasPrefix(o.New.Name(now), "DW.ref."): // those are for the unwind tables, which are the module's
		return nil
	case o.New.IsFunction(now):
		if f := o.functions[base]; f != nil && f.symbol != nil && (!cobject.IsClone(o.New.Name(now)) || f.matches && o.Same(now, base)) {
			return f.symbol
		}
	case o.New.IsVariable(now):
		if f := o.variables[base]; f != nil {
			return f.symbol
		}
	}
	return nil
}

// checkIncluded refuses what code in the module would use wrongly.
func (c *change) checkIncluded() error {
	for _, o := range c.objects {
		for section := range o.include {
			s := &o.New.Sections[section]
			name := o.New.Name(section)
			if s.Flags&elf.SHF_TLS != 0 {
				return refusal(finding.UnsupportedBuild, name, o.after.Source(name), "the thread-local variable is new: threads that run already have no room for it",
					"use a variable that all threads share, or one that the program has")
			}
			for _, to := range o.New.Leads(section) {
				base, paired := o.Pairs[to]
				if !paired || o.include[to] {
					continue
				}
				name := o.New.Name(to)
				if f := o.functions[base]; o.New.IsFunction(to) && f != nil && f.symbol != nil {
					if len(f.several) > 1 && o.New.Symbols[o.New.Main(to)].Bind == elf.STB_LOCAL {
						return ambiguous(name, o.after.Source(name), f.several)
					}
				}
				if f := o.variables[base]; o.New.IsVariable(to) && f != nil && (len(f.several) > 1 || o.Doubtful(to)) {
					return ambiguous(name, o.after.Source(name), f.several)
				}
			}
			if o.Doubtful(section) {
				return refusal(finding.SymbolAmbiguous, name, o.after.Source(name), "several functions of the file have a static variable of this name, and which of them is which can't be told",
					"give the new one another name")
			}
		}
	}
	return nil
}

func refusal(code finding.Code, name, source, message, advice string) error {
	return &finding.Refusal{Findings: []finding.Finding{{Code: code, Severity: finding.Error, Function: name, Source: source, Message: message, Advice: advice}}}
}
