package patcher

import (
	"context"

	"github.com/darn-dev/darn/patcher/arena"
	"github.com/darn-dev/darn/patcher/exe"
	"github.com/darn-dev/darn/patcher/goruntime"
	"github.com/darn-dev/darn/patcher/link"
	"github.com/darn-dev/darn/patcher/module"
	"github.com/darn-dev/darn/patcher/process"
	"github.com/darn-dev/darn/patcher/redirect"
)

// language is what the engine asks that depends on what a target is written in.
// What it does not ask is the same for all.
type language interface {
	languageRuntime

	// Prepare does what can be done before a halt to make it short. What fails is
	// done, or refused, in the halt.
	Prepare()
	// checkIdentity refuses a module that is for another program or language.
	checkIdentity(m *module.Module, path string) error
	// near is where the code is that m patches, or if that is nil the program's own.
	near(m *module.Module) (link.Range, error)
	// planArena chooses the place of an arena near the code that m patches, which
	// is the first to be loaded, or if it is nil near the program's own.
	planArena(m *module.Module) (*arena.Arena, error)
	// bind computes the image of m at base, and what a user should know of it.
	bind(m *module.Module, base uint64) (*link.Image, error)
	// plan plans the redirect of a function with that code, and refuses what the
	// language has against it.
	plan(code []byte, f *link.Function) (*redirect.Plan, error)
	// checkOneStore says why the entry of a function must not be written while the
	// target runs, though one store would do it; "" if it may.
	checkOneStore(single *redirect.Plan, f *link.Function) string
	// forksNot tells whether programs of the language do not fork children that go on in
	// the same program, as a rule.
	forksNot() bool
	// checkConcurrent says why a module can't be registered while the target runs,
	// "" if it can.
	checkConcurrent(image *link.Image) string
	// checkPrologue refuses an entry where the debugger may want to set a
	// breakpoint one day that would break the jump.
	checkPrologue(h *process.Halt, c entryChange) error
	// isEntry tells whether a function of the program begins at an address, as far as
	// that is known.
	isEntry(addr uint64) bool
	// line returns the file and line of source of an address.
	line(addr uint64) (file string, line int, ok bool)
	// describe identifies the target.
	describe() TargetInfo
	// anyAddress is one that can be read as long as the target lives.
	anyAddress() uint64
}

// languageRuntime is what a target's runtime must be told when a module comes or
// goes, and what it can be asked. goruntime documents what each promises.
type languageRuntime interface {
	// Started and Idle tell whether a load or an unload can be made now.
	Started(h *process.Halt) (bool, error)
	Idle(h *process.Halt) (bool, error)
	// ForceGC makes garbage that refers to a module go, before References.
	ForceGC(ctx context.Context, p *process.Process) error
	// Register and Unregister return the writes that make a module known, and
	// forgotten.
	Register(h *process.Halt, l *goruntime.Ledger, image *link.Image, alloc goruntime.Alloc) (*goruntime.Registration, []link.Write, error)
	Unregister(h *process.Halt, l *goruntime.Ledger, m *goruntime.Registration, alloc goruntime.Alloc) ([]link.Write, error)
	// Settle returns when, after a write of Register's that was made or is to be
	// undone while the target runs, the next one may be made.
	Settle(w goruntime.Write) error
	// Positions returns who is or will return into the ranges, References who
	// holds an address in a module. What is in own, memory of Darn's, does not count.
	Positions(h *process.Halt, ranges ...link.Range) ([]goruntime.Holder, error)
	References(h *process.Halt, l *goruntime.Ledger, m *goruntime.Registration, writes []link.Write, own []goruntime.Range) ([]goruntime.Holder, []link.Write, error)
}

// initialiser is a runtime that can be made to initialise what a patch brings.
// Modules for other languages than Go bring nothing of that kind.
type initialiser interface {
	LabelsOffset() uint64
	Hooked() (fn uint64, err error)
	Hook(fn, place uint64) error
	Unhook(fn, place uint64) error
	CallHook(ctx context.Context, p *process.Process) error
}

// isGo tells which language a target is of: what Go's linker made is Go's, also
// if it can't be patched.
func isGo(x *exe.Executable) bool {
	if x.BuildInfo != nil || x.GoBuildID != "" {
		return true
	}
	for _, s := range x.Sections {
		if s.Name == ".gopclntab" || s.Name == ".go_export" {
			return true
		}
	}
	return false
}

// openLanguage finds out what the target needs by its executable.
func (e *Engine) openLanguage() (err error) {
	if isGo(e.exe) {
		e.lang, err = openGo(e)
	} else {
		e.lang, err = openC(e)
	}
	return err
}
