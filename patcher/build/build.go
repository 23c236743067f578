package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/darn-dev/darn/patcher/build/emit"
	"github.com/darn-dev/darn/patcher/build/object"
	"github.com/darn-dev/darn/patcher/exe"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/module"
)

// Build makes a module from what the source is now, against what it was when
// the target was built. It runs the go command in a process group of its own;
// when ctx is done that is killed, and nothing but the user's build cache has
// changed. A process that traces another must not call it: the tracer's wait
// would reap the go command.
//
// Errors are Refusals, or what the go command or git said. A program whose main
// has not called ToolMain is told so.
func Build(ctx context.Context, o Options) (*Result, error) {
	if !hooked {
		return nil, errors.New("this program can't build patches: its main, or TestMain, has to call build.ToolMain first, because the go command runs it again in place of the Go tools")
	}
	if o.Progress == nil {
		o.Progress = func(string, int, int) {}
	}
	var err error
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return nil, err
	}
	b := &builder{Options: o}
	defer b.close()
	if err := b.open(ctx); err != nil {
		return nil, err
	}
	if err := b.compile(ctx); err != nil {
		return nil, err
	}
	m, findings, err := b.make(ctx)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b.stage("writing the module")
	path := o.Output
	if path == "" {
		path = b.program.name + ".so"
	}
	if err := m.WriteSigned(path, o.Sign); err != nil {
		return nil, err
	}
	r := b.result(path, m, findings)
	Keep(path, r.ID, b.sources.changedFiles())
	return r, nil
}

// builder is a run of Build.
type builder struct {
	Options
	scratch  string // disposed of at the end
	target   *exe.Executable
	settings *settings
	program  *program
	base     *base
	earlier  []*module.Module
	sources  *sources
	was      map[string]string // the base's overlay, once it is known
	others   []string          // modules beside the base's tree that differ from their HEAD

	baseObject, newObject     *object.Object
	basePackages, newPackages map[string]string
	editPackages              map[string]string // newPackages, before source was added that initialises the patch
	initPackage               string            // to which that was added in newObject, "" for none
	match                     *object.Match
	diff                      *object.Diff
	initialised               []string          // variables that newObject initialises
	initFindings              []finding.Finding // see keepInit

	left   leftOut           // of a partial build, once that is known
	places map[string]string // file:line of what is left out of the diff
	apart  bool              // whether the functions of a partial build were tried apart

	stages int
}

// stage tells Progress what comes next.
func (b *builder) stage(words string) {
	const all = 7
	b.Progress(words, b.stages, all)
	b.stages = min(b.stages+1, all)
}

func (b *builder) close() {
	for _, o := range []*object.Object{b.baseObject, b.newObject} {
		if o != nil {
			o.Close()
		}
	}
	if b.target != nil {
		b.target.Close()
	}
	if b.scratch != "" {
		os.RemoveAll(b.scratch)
	}
}

// open reads the target and decides what to build.
func (b *builder) open(ctx context.Context) (err error) {
	b.stage("reading the target")
	path := b.Target
	if b.Pid != 0 {
		path = fmt.Sprintf("/proc/%d/exe", b.Pid)
	}
	if b.target, err = exe.OpenAny(path); err != nil {
		return err
	}
	if err := b.target.Supported(); err != nil {
		return err
	}
	if b.Symbols != "" {
		if err := b.target.KeepCompanion(b.Symbols); err != nil {
			return err
		}
	}
	for _, path := range b.After {
		m, err := module.Open(path)
		if err != nil {
			return err
		}
		b.earlier = append(b.earlier, m)
	}
	if b.settings, err = settingsOf(b.target.BuildInfo, isTest(b.target)); err != nil {
		return err
	}
	if b.program, err = openProgram(ctx, &b.Options, b.settings); err != nil {
		return err
	}
	b.base, err = chooseBase(ctx, &b.Options, b.settings, b.program.module, b.program.work)
	if err != nil {
		return err
	}
	b.scratch, err = os.MkdirTemp("", "darn-build-")
	return err
}

// compile captures the new source and the base, and matches the base with the
// target. The new source comes first: a mistake in it is then soon found.
func (b *builder) compile(ctx context.Context) error {
	if err := b.complete(ctx); err != nil {
		return err
	}
	listed := make(chan error, 1)
	go func() { listed <- b.listSources(ctx) }()
	cache := openBaseCache(b.target.GoBuildID, b.program.pkgDir, b.base.identity)
	base, cached := cache.get()
	matched := make(chan error, 1)
	if cached {
		go func() { matched <- b.takeBase(base) }()
	}
	err := b.captureNew(ctx, "new", b.program.overlay)
	if cached {
		if matchErr := <-matched; err == nil && matchErr != nil {
			cache.drop() // damaged: build it again
			cached = false
		}
	}
	if listErr := <-listed; err == nil {
		err = listErr
	}
	if len(b.others) > 0 {
		b.base.words += ", with HEAD of " + strings.Join(b.others, ", ")
	}
	if err != nil || cached {
		return err
	}
	if base, err = b.captureBase(ctx); err != nil {
		return err
	}
	b.stage("comparing the base with the target")
	if err := b.takeBase(base); err != nil {
		return err
	}
	cache.put(base)
	return nil
}

// takeBase opens the captured base and proves that it is what runs.
func (b *builder) takeBase(c *captured) (err error) {
	if b.baseObject != nil {
		b.baseObject.Close()
	}
	if b.baseObject, err = object.Open(c.object()); err != nil {
		return err
	}
	if b.basePackages, err = c.packages(); err != nil {
		return err
	}
	b.match, err = object.MatchTarget(b.baseObject, b.target)
	if r, ok := errors.AsType[*finding.Refusal](err); ok && finding.CodeOf(err) == finding.TextMismatch {
		first := &r.Findings[0]
		first.Message = fmt.Sprintf("%s; the base was %s", first.Message, b.base.words)
		first.Advice = b.base.advice + b.settings.doubts()
	}
	return err
}

// listSources finds out what the source was and is.
func (b *builder) listSources(ctx context.Context) error {
	was, err := b.baseOverlay(ctx)
	if err != nil {
		return err
	}
	scratch := filepath.Join(b.scratch, "list")
	if err := os.Mkdir(scratch, 0o777); err != nil {
		return err
	}
	b.sources, err = b.program.openSources(ctx, was, scratch)
	return err
}

// baseOverlay returns the overlay that shows the base, made once.
func (b *builder) baseOverlay(ctx context.Context) (map[string]string, error) {
	if b.was != nil {
		return b.was, nil
	}
	files := filepath.Join(b.scratch, "was")
	if err := os.Mkdir(files, 0o777); err != nil {
		return nil, err
	}
	was, err := b.base.overlay(ctx, files)
	if err != nil {
		return nil, err
	}
	if b.others, err = neighbours(ctx, b.program, b.base, was, files); err != nil {
		return nil, err
	}
	b.was = was
	return was, nil
}

func (b *builder) captureBase(ctx context.Context) (*captured, error) {
	b.stage("compiling the base")
	dir := filepath.Join(b.scratch, "base")
	if err := os.Mkdir(dir, 0o777); err != nil {
		return nil, err
	}
	c, err := b.program.capture(ctx, b.sources.was, dir, b.compiling("compiling the base"))
	return c, b.explainBase(err)
}

// explainBase says of the go command's error which source it is about.
func (b *builder) explainBase(err error) error {
	if _, failed := errors.AsType[*commandError](err); failed {
		return fmt.Errorf("the base does not compile: it is %s; %s: %w", b.base.words, b.base.advice, err)
	}
	return err
}

// captureNew builds the new source into a folder of that name and opens what
// comes of it.
func (b *builder) captureNew(ctx context.Context, name string, overlay map[string]string) error {
	b.stage("compiling the edit")
	dir := filepath.Join(b.scratch, name)
	if err := os.Mkdir(dir, 0o777); err != nil {
		return err
	}
	c, err := b.program.capture(ctx, overlay, dir, b.compiling("compiling the edit"))
	if err != nil {
		return err
	}
	if b.newObject != nil {
		b.newObject.Close()
	}
	if b.newObject, err = object.Open(c.object()); err != nil {
		return err
	}
	b.initPackage = ""
	for _, fn := range b.newObject.Functions {
		// In a test it is the package that is tested, not main.
		if name := b.newObject.Symbols[fn].Name; strings.HasSuffix(name, "."+emit.InitStart) {
			b.initPackage = object.PackageOf(name)
		}
	}
	if b.newPackages, err = c.packages(); err == nil && b.initPackage == "" {
		b.editPackages = b.newPackages
	}
	return err
}

// differs tells whether the functions of a package may be others than the base's.
// A package that differs only because it was built with another one to which
// source was added is what it was.
func (b *builder) differs(pkg string) bool {
	added := pkg == b.initPackage || slices.ContainsFunc(b.initialised, func(name string) bool { return object.PackageOf(name) == pkg })
	if added {
		return b.basePackages[pkg] != b.newPackages[pkg]
	}
	return b.basePackages[pkg] != b.editPackages[pkg]
}

func (b *builder) compiling(words string) func(pkg string) {
	n := 0
	return func(pkg string) {
		n++
		b.Progress(words+": "+pkg, n, 0)
	}
}

// compare finds what the edit changed.
func (b *builder) compare() (err error) {
	b.stage("comparing the edit with the base")
	edited, foreign := b.sources.edited()
	b.diff, err = object.Compare(b.baseObject, b.newObject, object.Options{
		Differs: b.differs,
		Source:  b.sources.edit,
		Fixed:   b.fixedEntry,
		Edited:  edited,
	})
	if err == nil {
		b.diff.Findings = append(b.diff.Findings, b.sources.changedC()...)
		b.keepInit()
	}
	if err == nil && len(foreign) > 0 {
		b.diff.Findings = append(b.diff.Findings, finding.Finding{Code: finding.NoChange, Severity: finding.Info, Source: foreign[0] + ":1",
			Message: fmt.Sprintf("this file differs and is not part of the program (of such files there are %d)", len(foreign)),
			Advice:  "nothing, unless the edit is there: then build the patch for a program that it is part of"})
	}
	return err
}

// keepInit keeps what is said of initialisation from before source was added that
// initialises the patch: with that, packages differ that nobody has edited.
func (b *builder) keepInit() {
	isInit := func(f finding.Finding) bool {
		return f.Code == finding.InitialValueChanged || f.Code == finding.InitChanged && f.Severity == finding.Warning
	}
	if b.initPackage != "" {
		b.diff.Findings = append(slices.DeleteFunc(b.diff.Findings, isInit), b.initFindings...)
		return
	}
	b.initFindings = slices.DeleteFunc(slices.Clone(b.diff.Findings), func(f finding.Finding) bool { return !isInit(f) })
}

// make compares and emits. A patch that brings what has to be initialised is
// built once more, so that it does that, and again if that needs more.
func (b *builder) make(ctx context.Context) (*module.Module, []finding.Finding, error) {
	for round := 0; ; round++ {
		m, findings, err := b.emit(ctx)
		need, ok := errors.AsType[*emit.InitNeeded](err)
		if !ok {
			return m, findings, err
		}
		need.Variables = append(need.Variables, b.initialised...)
		slices.Sort(need.Variables)
		need.Variables = slices.Compact(need.Variables)
		if round > 0 && len(need.Variables) == len(b.initialised) {
			return nil, nil, fmt.Errorf("building the patch so that it initialises what it brings: %w", need)
		}
		if err := b.captureInitialising(ctx, need, round); err != nil {
			return nil, nil, err
		}
		b.initialised = need.Variables
	}
}

func (b *builder) emit(ctx context.Context) (*module.Module, []finding.Finding, error) {
	if err := b.compare(); err != nil {
		return nil, nil, err
	}
	refused := refusal(b.diff)
	b.places = map[string]string{}
	if b.Partial {
		if b.left == nil {
			if err := b.leaveOut(ctx); err != nil {
				return nil, nil, err
			}
		}
		b.withoutLeftOut()
	}
	if b.diff.Refused() || len(b.diff.Changed) == 0 {
		return nil, nil, refused
	}
	b.stage("making the module")
	in := emit.Input{
		Base: b.baseObject, New: b.newObject, Diff: b.diff, Match: b.match, Exe: b.target, Earlier: b.earlier,
		Name: b.moduleName(), Description: b.Description,
		Initialised: b.initialised,
		Origin:      module.Origin{Base: b.base.words, New: b.Dir, Builder: builderVersion()},
	}
	m, found, err := emit.Emit(in)
	if b.Partial && !b.apart && finding.As(err) != nil {
		b.apart = true
		b.emitApart(in)
		if b.withoutLeftOut(); len(b.diff.Changed) > 0 {
			m, found, err = emit.Emit(in)
		}
	}
	if err != nil {
		return nil, nil, err
	}
	m.Manifest.LeftOut = b.declaredLeftOut()
	m.Manifest.Sources = b.sources.changedSources()
	edited, _ := b.sources.edited()
	m.Manifest.Added = slices.DeleteFunc(m.Manifest.Added, func(d module.Declared) bool {
		return !slices.Contains(edited, object.PackageOf(d.Symbol)) // drawn in from elsewhere
	})
	return m, found, nil
}

// moduleName is the module's name: its file's.
func (b *builder) moduleName() string {
	if b.Output == "" {
		return b.program.name
	}
	return strings.TrimSuffix(filepath.Base(b.Output), filepath.Ext(b.Output))
}

// refusal puts the findings that refuse first. A diff without any has no
// function to replace: that is what it is refused for, then.
func refusal(d *object.Diff) error {
	r := &finding.Refusal{}
	refused := d.Refused()
	decides := func(f finding.Finding) bool {
		return f.Severity == finding.Error || !refused && f.Code == finding.NoChange && f.Function == "" && f.Source == ""
	}
	for _, f := range d.Findings {
		if decides(f) {
			f.Severity = finding.Error
			r.Findings = append(r.Findings, f)
		}
	}
	for _, f := range d.Findings {
		if !decides(f) {
			r.Findings = append(r.Findings, f)
		}
	}
	return r
}

// result describes the module.
func (b *builder) result(path string, m *module.Module, findings []finding.Finding) *Result {
	r := &Result{Path: path, ID: m.ID(), Name: m.Manifest.Name, Base: b.base.words, Findings: append(b.base.findings, findings...),
		Verdicts: m.Manifest.Verdicts(findings)}
	for _, x := range m.Manifest.Requires {
		r.Requires = append(r.Requires, x.Name)
	}
	for _, f := range m.Manifest.Functions {
		r.Functions = append(r.Functions, Function{Name: f.Symbol, Source: f.Source, Why: f.Why})
	}
	for _, f := range m.Manifest.LeftOut {
		r.LeftOut = append(r.LeftOut, Function{Name: f.Symbol, Source: f.Source, Why: f.Why})
	}
	return r
}

// builderVersion is the version of this program, for people.
func builderVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return "darn " + info.Main.Version
	}
	return "darn"
}
