// Package emit makes a patch module out of what an edit changed: it takes the
// changed functions from the relocatable object of the new source, whatever new
// things they need, and ties the rest to the target.
//
// The module is small because nothing keeps the linker's layout: the linker
// resolves some references without leaving a relocation, but all of them are
// known (calls and jumps are recovered by decoding, offsets in types and in the
// line table by their structure), so code and data are laid out afresh and the
// runtime's tables (pclntab, findfunctab, moduledata, pointer masks) are
// written anew for just the functions that are there.
package emit

import (
	"slices"
	"strings"

	"github.com/darn-dev/darn/patcher/build/object"
	"github.com/darn-dev/darn/patcher/exe"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/module"
)

// Input is what a module is made of.
type Input struct {
	Base, New *object.Object
	Diff      *object.Diff    // of Base and New
	Match     *object.Match   // of Base and Exe
	Exe       *exe.Executable // the target's
	// Earlier are modules for the same target that it has loaded before this
	// one, in that order: the variables and types that they added are shared.
	Earlier []*module.Module
	Name    string // the module's
	// Description is for people, as is Origin.
	Description string
	Origin      module.Origin
	// Initialised are the variables that an InitNeeded asked for, and that New
	// is now built to initialise as far as they have an initial value.
	Initialised []string
}

// InitNeeded is the error of Emit when the patch brings what must be
// initialised before its functions run, and New was not built to do so. New is
// then to be built once more with source that does it: see InitTasks.
type InitNeeded struct {
	// Packages are the import paths of new ones, in the order of their
	// initialisation.
	Packages []string
	// Variables are symbols of new variables of packages that are not new: all
	// that the patch has of a package in which one needs it.
	Variables []string
}

// Error says what is missing.
func (e *InitNeeded) Error() string {
	return "the patch must initialise " + e.What() + ", and is not built to do so"
}

// What names what is to be initialised.
func (e *InitNeeded) What() string {
	return strings.Join(slices.Concat(e.Packages, e.Variables), ", ")
}

// Emit makes the module. What makes the patch impossible is returned as a
// *finding.Refusal; what is only worth knowing as findings, which are in the
// module's manifest too.
func Emit(in Input) (*module.Module, []finding.Finding, error) {
	b, err := newBuilder(&in)
	if err != nil {
		return nil, nil, err
	}
	for _, stage := range []func() error{
		b.check, b.roots, b.fillMethods, b.initialise,
		b.layText, b.layData, b.layTables, b.debug, b.finish,
	} {
		if err := stage(); err != nil {
			return nil, b.findings, err
		}
	}
	return b.out, b.findings, nil
}
