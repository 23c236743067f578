package patcher

import (
	"time"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/process"
	"github.com/darn-dev/darn/patcher/redirect"
)

// Patch is a set of functions replaced together, as a client sees it.
type Patch struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	Path      string     `json:"path"` // of the module file it was loaded from
	State     State      `json:"state"`
	Functions []Function `json:"functions"`
	// Findings are the builder's and the loader's warnings.
	Findings []finding.Finding `json:"findings,omitempty"`
}

// Function is one function that a patch replaces.
type Function struct {
	Name       string            `json:"name"`       // as in the target's symbol table
	Address    uint64            `json:"address"`    // of the old code
	NewAddress uint64            `json:"newAddress"` // of the new code, 0 if nothing is loaded
	Source     string            `json:"source,omitempty"`
	Encoding   redirect.Encoding `json:"encoding"`
	// FramesInOldCode is the number of stack frames that were in the old code
	// when the patch was activated.
	FramesInOldCode int `json:"framesInOldCode"`
}

// Receipt says what an operation did to the target's time.
type Receipt struct {
	Operation      Operation      `json:"operation"`
	DurationMicros int64          `json:"durationMicros"` // of the whole operation
	Halts          int            `json:"halts"`          // how often threads of a running target were kept from running
	HaltMicros     int64          `json:"haltMicros"`     // for how long altogether
	ThreadsHalted  int            `json:"threadsHalted"`  // the most threads in one halt
	Encodings      map[string]int `json:"encodings,omitempty"`
}

// AttachReceipt is the receipt of what it cost the target that p was attached
// to by process.Attach.
func AttachReceipt(p *process.Process) *Receipt {
	halt := p.AttachHalt()
	return newReceipt("attach", time.Now().Add(-halt.Total), halt)
}

// newReceipt completes the receipt of an operation begun at start.
func newReceipt(op Operation, start time.Time, halts process.HaltStats) *Receipt {
	return &Receipt{
		Operation:      op,
		DurationMicros: time.Since(start).Microseconds(),
		Halts:          halts.Halts,
		HaltMicros:     halts.Total.Microseconds(),
		ThreadsHalted:  halts.ThreadsHalted,
	}
}

// TargetInfo identifies the target of an Engine.
type TargetInfo struct {
	PID      int    `json:"pid"`
	Language string `json:"language"`
	Version  string `json:"version,omitempty"` // of the Go toolchain that built it
	BuildID  string `json:"buildId,omitempty"`
}

// Listing is the answer to list.
type Listing struct {
	Patches []Patch    `json:"patches"`
	Target  TargetInfo `json:"target"`
}

// Inspection says what loading a module would do. Nothing is touched.
type Inspection struct {
	Module   ModuleInfo        `json:"module"`
	Findings []finding.Finding `json:"findings"`
	// OK is whether load would be tried: no finding is an error.
	OK bool `json:"ok"`
}

// ModuleInfo describes a module file.
type ModuleInfo struct {
	ID          string     `json:"id"` // sha256 of the file
	Name        string     `json:"name"`
	Description string     `json:"description,omitempty"`
	Path        string     `json:"path"`
	Language    string     `json:"language"`
	BuildID     string     `json:"buildId,omitempty"` // of the target it was built for
	Functions   []Function `json:"functions"`
	Base        string     `json:"base,omitempty"`
}

// ActivateOptions modify activate.
type ActivateOptions struct {
	// Consistency is "immediate" (also if empty): new calls run new code at
	// once, calls already in old code finish there.
	Consistency string `json:"consistency,omitempty"`
}
