package adapter

import (
	"encoding/json"
	"strconv"

	"github.com/google/go-dap"
)

// oldSuffix marks the names of frames that run replaced code.
const oldSuffix = " (old)"

// showFrames marks the frames of a stackTrace response's body that run code
// which no new call runs, and gives those in files that were edited the lines
// that the client sees.
func (s *patches) showFrames(body []byte) []byte {
	old, files := s.old.Load(), s.files()
	if len(files) == 0 {
		return body
	}
	return edit(body, "stackFrames", func(list []byte) []byte {
		var frames []json.RawMessage
		if json.Unmarshal(list, &frames) != nil {
			return list
		}
		known := map[string]*shown{}
		for i, raw := range frames {
			var f dap.StackFrame
			if json.Unmarshal(raw, &f) != nil {
				continue
			}
			pc, err := strconv.ParseUint(f.InstructionPointerReference, 0, 64)
			if err != nil {
				continue
			}
			if f.Source != nil {
				file, seen := known[f.Source.Path]
				if !seen {
					if s, ok := files.shows(f.Source.Path); ok {
						file = &s
					}
					known[f.Source.Path] = file
				}
				if file != nil {
					if line, ok := file.onScreen(files.at(pc), f.Line); ok && line != f.Line {
						raw = edit(raw, "line", func([]byte) []byte { return marshal(line) })
					}
				}
			}
			if old.Holds(pc, f.Name) {
				raw = edit(raw, "name", func([]byte) []byte { return marshal(f.Name + oldSuffix) })
				if f.PresentationHint == "" {
					raw = addMember(raw, "presentationHint", "subtle")
				}
			}
			frames[i] = raw
		}
		return marshal(frames)
	})
}
