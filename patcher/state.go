package patcher

import (
	"fmt"
	"strings"

	"github.com/darn-dev/darn/patcher/finding"
)

// State is the state of a patch.
type State string

// The states of a patch. An unloaded patch is unknown to the target.
const (
	Unloaded State = "unloaded"
	Loaded   State = "loaded"
	Pending  State = "pending" // loaded, and to be activated at an instant that is waited for
	Active   State = "active"
)

// Operation is what a client can ask for.
type Operation string

// The operations that change a patch's state.
const (
	OpLoad       Operation = "load"
	OpActivate   Operation = "activate"
	OpDeactivate Operation = "deactivate"
	OpUnload     Operation = "unload"
	OpList       Operation = "list" // changes none, and may halt the target
)

// transitions lists every legal transition. What is not here is refused.
var transitions = []struct {
	op       Operation
	from, to State
}{
	{OpLoad, Unloaded, Loaded},
	{OpActivate, Loaded, Active},
	{OpDeactivate, Active, Loaded},
	{OpDeactivate, Pending, Loaded},
	{OpUnload, Loaded, Unloaded},
}

// next returns the state that op leads to from s, or a Refusal wrong-state
// that names the state the patch is in.
func (s State) next(op Operation, id string) (State, error) {
	var needs []string
	for _, t := range transitions {
		switch {
		case t.op != op:
		case t.from == s:
			return t.to, nil
		default:
			needs = append(needs, string(t.from))
		}
	}
	advice := map[Operation]string{
		OpActivate:   "nothing to do: its code is already in use",
		OpDeactivate: "nothing to do: its code is not in use",
		OpUnload:     "deactivate it first",
	}[op]
	if op == OpActivate && s == Pending {
		advice = "its activation waits for its instant; deactivate it to give that up"
	}
	return s, finding.Refuse(finding.WrongState,
		fmt.Sprintf("cannot %s patch %s: it is %s, and %s needs it %s", op, id, s, op, strings.Join(needs, " or ")), advice)
}
