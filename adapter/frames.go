package adapter

import (
	"encoding/json"
	"strconv"

	"github.com/google/go-dap"
)

// oldSuffix marks the names of frames that run replaced code.
const oldSuffix = " (old)"

// markOld marks the frames of a stackTrace response's body that run code which
// no new call runs.
func (s *patches) markOld(body []byte) []byte {
	old := s.old.Load()
	if old == nil {
		return body
	}
	return edit(body, "stackFrames", func(list []byte) []byte {
		var frames []json.RawMessage
		if json.Unmarshal(list, &frames) != nil {
			return list
		}
		for i, raw := range frames {
			var f dap.StackFrame
			if json.Unmarshal(raw, &f) != nil {
				continue
			}
			pc, err := strconv.ParseUint(f.InstructionPointerReference, 0, 64)
			if err != nil || !old.Holds(pc, f.Name) {
				continue
			}
			raw = edit(raw, "name", func([]byte) []byte { return marshal(f.Name + oldSuffix) })
			if f.PresentationHint == "" {
				raw = addMember(raw, "presentationHint", "subtle")
			}
			frames[i] = raw
		}
		return marshal(frames)
	})
}
