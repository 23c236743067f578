package patcher

import (
	"bytes"
	"cmp"
	"context"
	"debug/elf"
	"fmt"
	"slices"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/link"
	"github.com/darn-dev/darn/patcher/module"
	"github.com/darn-dev/darn/patcher/process"
	"github.com/darn-dev/darn/patcher/redirect"
)

// Inspect is InspectModule for the file at path. An error is also one of a file
// that is no module (module-malformed).
func (e *Engine) Inspect(ctx context.Context, path string) (*Inspection, error) {
	m, err := module.Open(path)
	if err != nil {
		return nil, err
	}
	return e.InspectModule(ctx, m, path)
}

// InspectModule says what loading a module would do, which was read from the file
// at path. The target is not changed; it may run or be stopped, and is halted
// only if a breakpoint of the debugger hides what has to be compared. A module
// that could not be loaded is no error but an Inspection with the findings that
// say why, after those that the caller has found already; an error is busy.
func (e *Engine) InspectModule(ctx context.Context, m *module.Module, path string, found ...finding.Finding) (*Inspection, error) {
	end, err := e.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	in := &Inspection{Module: DescribeModule(m, path), Findings: []finding.Finding{}, OK: true}
	in.Findings = append(append(in.Findings, found...), m.Manifest.Findings...)
	c, err := e.checkUnplaced(ctx, m, path)
	if c != nil {
		in.Module.Functions = e.foresee(c)
		in.Findings = append(in.Findings, c.image.Findings...)
	}
	if r := finding.As(err); r != nil {
		in.Findings = append(in.Findings, r.Findings...)
	} else if err != nil {
		return nil, err
	}
	in.Verdicts = m.Manifest.Verdicts(in.Findings)
	for _, f := range in.Findings {
		in.OK = in.OK && f.Severity != finding.Error
	}
	return in, nil
}

// checkUnplaced checks m at a place where it could be loaded.
func (e *Engine) checkUnplaced(ctx context.Context, m *module.Module, path string) (*checked, error) {
	a := e.arena
	if a == nil {
		var err error
		if err := e.checkIdentity(m, path); err != nil {
			return nil, err
		}
		if a, err = e.lang.planArena(m); err != nil {
			return nil, err
		}
		defer a.Close()
	}
	base, err := e.allocModule(a, m)
	if err != nil {
		return nil, err
	}
	defer a.Free(base, moduleSize(m))
	return e.check(ctx, m, path, base)
}

// DescribeModule says what is in a module, whatever the target.
func DescribeModule(m *module.Module, path string) ModuleInfo {
	d := ModuleInfo{
		ID:          m.ID(),
		Name:        m.Manifest.Name,
		Description: m.Manifest.Description,
		Path:        path,
		Language:    m.Manifest.Language,
		BuildID:     cmp.Or(m.Manifest.Target.GoBuildID, m.Manifest.Target.GNUBuildID),
		Base:        m.Manifest.Origin.Base,
		Signer:      module.Fingerprint(m.Signer()),
	}
	for _, f := range m.Manifest.Functions {
		d.Functions = append(d.Functions, Function{Name: f.Symbol, Source: f.Source})
	}
	return d
}

// checked is a module that fits the target.
type checked struct {
	module *module.Module
	path   string
	image  *link.Image
	plans  []*redirect.Plan // of image.Functions; nil where refused
}

// foresee describes the functions of a module as they would be if it were loaded,
// as long as there is room.
func (e *Engine) foresee(c *checked) []Function {
	fs := make([]Function, len(c.image.Functions))
	for i, f := range c.image.Functions {
		fs[i] = Function{Name: f.Symbol, Address: f.Entry, Source: f.Source}
		plan := c.plans[i]
		if plan == nil {
			continue
		}
		if d := e.reg.redirect(f.Entry); d != nil {
			fs[i].Encoding, fs[i].EncodingReason = d.Encoding, d.Why
			continue
		}
		single, _, why := e.oneStore(plan, &f)
		if single != nil {
			plan = single
		}
		fs[i].Encoding, fs[i].EncodingReason = plan.Encoding, why
	}
	return fs
}

// size returns the size of the module's function at an address of the module's,
// in bytes.
func (c *checked) size(addr uint64) uint64 {
	for _, s := range c.module.Symbols {
		if s.Addr == addr && s.Type == elf.STT_FUNC && !s.Undefined {
			return s.Size
		}
	}
	return 0
}

// check verifies that m was built for this target and binds it at base, and
// verifies for each function that the code that runs is the code that the
// module was built against and can be redirected. All refusals are collected.
func (e *Engine) check(ctx context.Context, m *module.Module, path string, base uint64) (*checked, error) {
	if err := e.checkIdentity(m, path); err != nil {
		return nil, err
	}
	image, err := e.lang.bind(m, base)
	if err != nil {
		return nil, err
	}
	c := &checked{m, path, image, make([]*redirect.Plan, len(image.Functions))}
	refusal := new(finding.Refusal)
	for i := range image.Functions {
		f := &image.Functions[i]
		var err error
		if c.plans[i], err = e.plan(ctx, f); err == nil {
			continue
		}
		r := finding.As(err)
		if r == nil {
			return nil, err
		}
		if f.Optional {
			c.leaveOut(i, r)
			continue
		}
		for _, x := range r.Findings {
			x.Function, x.Source = f.Symbol, f.Source
			refusal.Findings = append(refusal.Findings, x)
		}
	}
	if len(refusal.Findings) > 0 {
		return c, refusal
	}
	image.Functions = slices.DeleteFunc(image.Functions, func(f link.Function) bool { return f.Entry == 0 })
	c.plans = slices.DeleteFunc(c.plans, func(p *redirect.Plan) bool { return p == nil })
	return c, nil
}

// leaveOut does without the function number i, and says why.
func (c *checked) leaveOut(i int, why *finding.Refusal) {
	f := &c.image.Functions[i]
	for _, x := range why.Findings {
		x.Function, x.Source, x.Severity = f.Symbol, f.Source, finding.Warning
		x.Message = "it is not replaced: " + x.Message
		c.image.Findings = append(c.image.Findings, x)
	}
	f.Entry, c.plans[i] = 0, nil
}

// checkIdentity verifies that m is for this build and not loaded yet.
func (e *Engine) checkIdentity(m *module.Module, path string) error {
	if err := e.lang.checkIdentity(m, path); err != nil {
		return err
	}
	for _, p := range e.reg.Patches {
		if p.Module == m.ID() {
			return finding.Refuse(finding.AlreadyLoaded,
				fmt.Sprintf("this module is already loaded as patch %s, which is %s", p.ID, e.state(p)),
				"use that patch, or unload it first")
		}
	}
	return nil
}

// plan compares the old code of f with what the module was built against and
// plans the redirect of its entry.
func (e *Engine) plan(ctx context.Context, f *link.Function) (*redirect.Plan, error) {
	code := make([]byte, f.Size)
	if err := e.p.ReadText(code, f.Entry); err != nil {
		return nil, err
	}
	if f.CheckText(e.withoutRedirects(code, f.Entry)) != nil {
		// All breakpoints of the debugger are only known under a halt.
		err := e.p.HaltFor(ctx, "a breakpoint may be in the code that is replaced", func(h *process.Halt) error { return h.ReadText(code, f.Entry) })
		if err != nil {
			return nil, err
		}
		if err := f.CheckText(e.withoutRedirects(code, f.Entry)); err != nil {
			return nil, err
		}
	}
	return e.lang.plan(e.withoutRedirects(code, f.Entry), f)
}

// withoutRedirects puts the original bytes back into code, read from addr,
// wherever Darn itself has written a jump.
func (e *Engine) withoutRedirects(code []byte, addr uint64) []byte {
	for _, d := range e.reg.Redirects {
		off := d.at() - addr
		if off < uint64(len(code)) && bytes.HasPrefix(code[off:], d.Now) {
			copy(code[off:], d.Old)
		}
	}
	return code
}
