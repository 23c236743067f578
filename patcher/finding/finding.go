// Package finding holds the words in which Darn says what it found: codes,
// findings and the error that carries them. Everything that can refuse speaks
// through it, so that an editor, a script and a person read the same thing.
package finding

import (
	"errors"
	"fmt"
	"strings"
)

// Code names a reason. Codes are stable: scripts and editors match on them.
type Code string

// The codes of the protocol. Each is used with a message that says what and
// why, and an advice that says what to do.
const (
	BuildIDMismatch          Code = "build-id-mismatch"
	TextMismatch             Code = "text-mismatch"
	ModuleMalformed          Code = "module-malformed"
	SignatureRequired        Code = "signature-required"
	SignatureInvalid         Code = "signature-invalid"
	ModuleWritable           Code = "module-writable"
	Quarantined              Code = "quarantined"
	NotPermitted             Code = "not-permitted"
	SymbolUnresolved         Code = "symbol-unresolved"
	SymbolAmbiguous          Code = "symbol-ambiguous"
	OutOfRange               Code = "out-of-range"
	EntryTooShort            Code = "entry-too-short"
	EntryBranchTarget        Code = "entry-branch-target"
	SignatureChanged         Code = "signature-changed"
	TypeLayoutChanged        Code = "type-layout-changed"
	MethodSetChanged         Code = "method-set-changed"
	GlobalChanged            Code = "global-changed"
	InitChanged              Code = "init-changed"
	ClosureCapturesChanged   Code = "closure-captures-changed"
	GenericDictionaryChanged Code = "generic-dictionary-changed"
	UnsupportedBuild         Code = "unsupported-build"
	UnsupportedTarget        Code = "unsupported-target"
	BreakpointAtEntry        Code = "breakpoint-at-entry"
	AlreadyLoaded            Code = "already-loaded"
	NotLoaded                Code = "not-loaded"
	WrongState               Code = "wrong-state"
	InUse                    Code = "in-use"
	Busy                     Code = "busy"
	GCTimeout                Code = "gc-timeout"
	QuiescenceTimeout        Code = "quiescence-timeout"
	InitTimeout              Code = "init-timeout"
	InitFailed               Code = "init-failed"
	PointInvalid             Code = "point-invalid"
	PointTimeout             Code = "point-timeout"
	TargetExited             Code = "target-exited"
)

// The codes below belong to the outcome of a build rather than to a refusal.
const (
	// NoChange: the edit changes nothing in the running program.
	NoChange Code = "no-change"
	// NeverReturns: the function is replaced, but callers already in it stay
	// in the old code until they return, which they may never do.
	NeverReturns Code = "never-returns"
	// InitialValueChanged: a changed initial value is not applied to a
	// variable that already lives.
	InitialValueChanged Code = "initial-value-changed"
	// InlinedCopy: callers of the function have a copy of it, or a version that
	// the compiler made for them, which is not replaced.
	InlinedCopy Code = "inlined-copy"
	// LibraryFunction: the function is one of a library, not of the program.
	LibraryFunction Code = "library-function"
	// LibraryLoaded: the program was made to load a library, which stays.
	LibraryLoaded Code = "library-loaded"
)

// Severity ranks a finding.
type Severity string

// An Error refuses; a Warning and an Info do not.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
	Info    Severity = "info"
)

// Finding says one thing about one construct.
type Finding struct {
	Code     Code     `json:"code"`
	Severity Severity `json:"severity"`
	Function string   `json:"function,omitempty"` // symbol name, as the linker writes it
	Source   string   `json:"source,omitempty"`   // file:line
	Message  string   `json:"message"`            // what and why
	Advice   string   `json:"advice,omitempty"`   // what to do
}

// String formats f like a compiler's diagnostic.
func (f Finding) String() string {
	var b strings.Builder
	if f.Source != "" {
		b.WriteString(f.Source + ": ")
	}
	b.WriteString(string(f.Severity) + ": ")
	if f.Function != "" {
		b.WriteString(f.Function + ": ")
	}
	fmt.Fprintf(&b, "%s [%s]", f.Message, f.Code)
	if f.Advice != "" {
		b.WriteString("; " + f.Advice)
	}
	return b.String()
}

// Refusal is the error of an operation that was refused. It holds at least
// one finding; the first is the one that decided.
type Refusal struct {
	Findings []Finding
}

// Refuse returns a Refusal with one finding of severity Error.
func Refuse(code Code, message, advice string) *Refusal {
	return &Refusal{[]Finding{{Code: code, Severity: Error, Message: message, Advice: advice}}}
}

// Error lists every finding, one a line.
func (r *Refusal) Error() string {
	lines := make([]string, len(r.Findings))
	for i, f := range r.Findings {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n")
}

// CodeOf returns the code of the Refusal in err's chain, or "" if it has none.
func CodeOf(err error) Code {
	if r := As(err); r != nil && len(r.Findings) > 0 {
		return r.Findings[0].Code
	}
	return ""
}

// As returns the Refusal in err's chain, nil if there is none.
func As(err error) *Refusal {
	r, _ := errors.AsType[*Refusal](err)
	return r
}
