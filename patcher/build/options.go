// Package build makes a patch module from an edit of a Go program's source.
//
// The program's main package is compiled twice with the stock toolchain, the
// target's own flags and the user's build cache: as the target was built from
// (the base) and as the source is now (the new). From each build the linker's
// relocatable object is captured. The base is proven to be what runs by
// comparing it with the target's text; the functions that differ between base
// and new go into the module.
package build

import (
	"crypto/ed25519"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/module"
)

// Options says what to build.
type Options struct {
	// Package is the program's main package, as "go build" takes it. "" is the
	// package that the target's build information names.
	Package string
	// Dir is the directory that the go command runs in; "" is the current one.
	Dir string
	// Base is the source that the target was built from: a git revision, or a
	// folder that holds a copy of the whole tree. "" is the revision in the
	// target's build information if the repository has it, or else HEAD.
	Base string
	// Target is the path of the target's executable. Pid, if not 0, is a
	// process whose executable is meant instead.
	Target string
	Pid    int
	// Symbols is the file that a stripped target was before it was stripped. ""
	// takes what the user's cache has, or else makes one from the base.
	Symbols string
	// Overlay is a JSON file as for "go build -overlay"; it applies to the new
	// source only. "" is none.
	Overlay string
	// After are the paths of modules that are loaded into the program before
	// this one, in that order: the variables and types that they added to it are
	// shared, with the values they have, and the module can only be loaded after
	// those whose it uses.
	After []string
	// Output is the path of the module to write; "" is NAME.so in the current
	// directory, where NAME is the program's.
	Output string
	// Description goes into the module's manifest, for people.
	Description string
	// Partial builds what is safe where an edit is refused only in part.
	// Functions that depend on what is refused keep their old code.
	Partial bool
	// Sign is the key that the module is signed with, nil for none.
	Sign ed25519.PrivateKey
	// Progress, if not nil, is told what is being done: a stage in words, and
	// how much of it is done. total is 0 where it isn't known.
	Progress func(stage string, done, total int)
}

// Result is a module that was built.
type Result struct {
	Path string `json:"path"`
	ID   string `json:"id"`
	Name string `json:"name"`
	Base string `json:"base"` // in words
	// Requires names the patches whose variables or types the module shares: it
	// can only be loaded after them.
	Requires  []string   `json:"requires,omitempty"`
	Functions []Function `json:"functions"`
	// LeftOut are functions that changed and that a partial build left out.
	LeftOut []Function `json:"leftOut,omitempty"`
	// Verdicts say what becomes of each function that the edit touched.
	Verdicts []module.Verdict  `json:"verdicts"`
	Findings []finding.Finding `json:"findings,omitempty"`
}

// Function is a function that the module replaces or leaves alone.
type Function struct {
	Name   string `json:"name"`
	Source string `json:"source,omitempty"` // file:line
	Why    string `json:"why,omitempty"`    // the first difference, or why not, in words
}
