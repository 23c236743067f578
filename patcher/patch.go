package patcher

import (
	"time"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/module"
	"github.com/darn-dev/darn/patcher/process"
	"github.com/darn-dev/darn/patcher/redirect"
)

// Patch is a set of functions replaced together, as a client sees it.
type Patch struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	Path      string     `json:"path"`   // of the module file it was loaded from
	Module    string     `json:"module"` // sha256 of that file as it was then, without its signature, hex
	State     State      `json:"state"`
	Functions []Function `json:"functions"`
	// Initialisation is that of what the patch brings, nil if nothing is
	// initialised.
	Initialisation *Initialisation `json:"initialisation,omitempty"`
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
	// EncodingReason says why the function has no switch, if it has none, and else
	// why its entry can't be written while threads run; "" with
	// redirect.SingleEncoding, which has both.
	EncodingReason string `json:"encodingReason,omitempty"`
	// Straight tells that the entry does not lead to a stub, though a patch on it was
	// active once: while no switch is set calls need not ask them. The entry jumps to
	// the new code that is active, or has its original bytes if none is.
	Straight bool `json:"straight,omitempty"`
	// FramesInOldCode is how many stack frames of the target were in code that
	// the patch replaces when that was last looked at: by the activation, if it
	// halted the target, by List, or by an activation that waits. It is -1 if
	// nobody has looked since the patch was activated, and 0 while it is loaded.
	FramesInOldCode int `json:"framesInOldCode"`
}

// Receipt says what an operation did to the target's time.
type Receipt struct {
	Operation      Operation `json:"operation"`
	DurationMicros int64     `json:"durationMicros"` // of the whole operation
	Halts          int       `json:"halts"`          // how often threads of a running target were kept from running
	HaltMicros     int64     `json:"haltMicros"`     // for how long altogether
	ThreadsHalted  int       `json:"threadsHalted"`  // the most threads in one halt
	// HaltedBecause says why there were halts, "" if there were none.
	HaltedBecause string         `json:"haltedBecause,omitempty"`
	Encodings     map[string]int `json:"encodings,omitempty"`
	// Replaced holds the ids of the patches that an activation has deactivated
	// at the same instant.
	Replaced []string `json:"replaced,omitempty"`
	// Looks is how often an activation looked whether anybody runs the old
	// code; 0 if it did not have to wait for that.
	Looks int `json:"looks,omitempty"`
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
		HaltedBecause:  halts.Because,
	}
}

// AddHalts counts halts that the caller of the operation made for its sake, and
// says why.
func (r *Receipt) AddHalts(halts process.HaltStats, because string) {
	if halts.Halts == 0 {
		return
	}
	halts.Because = because
	r.HaltedBecause = process.HaltStats{Because: r.HaltedBecause}.Add(halts).Because
	r.DurationMicros += halts.Total.Microseconds()
	r.Halts += halts.Halts
	r.HaltMicros += halts.Total.Microseconds()
	r.ThreadsHalted = max(r.ThreadsHalted, halts.ThreadsHalted)
}

// TargetInfo identifies the target of an Engine.
type TargetInfo struct {
	PID      int    `json:"pid"`
	Language string `json:"language"`
	Version  string `json:"version,omitempty"` // of the Go toolchain that built it
	BuildID  string `json:"buildId,omitempty"`
	Package  string `json:"package,omitempty"` // import path of its main package
}

// Listing is the answer to list.
type Listing struct {
	Patches []Patch    `json:"patches"`
	Target  TargetInfo `json:"target"`
	// Receipt is that of the halt in which frames were counted, nil without one.
	Receipt *Receipt `json:"receipt,omitempty"`
}

// Inspection says what loading a module would do. Nothing is touched.
type Inspection struct {
	Module ModuleInfo `json:"module"`
	// Verdicts say what becomes of each function that the edit touched.
	Verdicts []module.Verdict  `json:"verdicts"`
	Findings []finding.Finding `json:"findings"`
	// OK is whether load would be tried: no finding is an error.
	OK bool `json:"ok"`
}

// ModuleInfo describes a module file.
type ModuleInfo struct {
	ID          string     `json:"id"` // sha256 of the file, without its signature
	Name        string     `json:"name"`
	Description string     `json:"description,omitempty"`
	Path        string     `json:"path"`
	Language    string     `json:"language"`
	BuildID     string     `json:"buildId,omitempty"` // of the target it was built for
	Functions   []Function `json:"functions"`
	Base        string     `json:"base,omitempty"`
	// Signer is the fingerprint of the key with which the module is signed, ""
	// if it is not; whether that is trusted is not known here.
	Signer string `json:"signer,omitempty"`
}

// The consistencies of an activation.
const (
	// Immediate: new calls run new code at once, calls that are in old code
	// finish there.
	Immediate = "immediate"
	// Quiescent: the patch is activated at an instant at which nobody is in the
	// code that it replaces.
	Quiescent = "quiescent"
)

// QuiescenceTimeout is for how long a quiescent activation waits if it is not
// told.
const QuiescenceTimeout = 10 * time.Second

// ActivateOptions modify activate.
type ActivateOptions struct {
	// Consistency is Immediate (also if empty) or Quiescent.
	Consistency string
	// Timeout is for how long an activation waits until what the patch brings is
	// initialised, and a Quiescent one until nobody is in old code, altogether; 0
	// stands for QuiescenceTimeout.
	Timeout time.Duration
	// Waiting, if not nil, is called by an activation that waits after each look
	// that was in vain, with the patch, which is Pending, and why it can't be
	// activated yet. It may call the Engine.
	Waiting func(p *Patch, why *finding.Refusal)
	// Replace deactivates all other active patches at the instant at which this
	// one is activated.
	Replace bool
	// LetGo, if not nil, is called when the entries have been led to the patch and
	// one store is left to do, which takes no debugger. It may detach from the
	// target for good, for somebody else to look on at what comes of the store, and
	// to keep other Darns from the target: after the store the resident thread
	// straightens the entries, and ends. If it fails so does the activation. It is not called if the activation takes a
	// halt to the end: a quiescent one, of functions without a switch, or if others
	// are switched off that are not by the same store.
	LetGo func() error
}
