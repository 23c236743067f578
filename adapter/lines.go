package adapter

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/darn-dev/darn/patcher"
	builder "github.com/darn-dev/darn/patcher/build"
	"github.com/darn-dev/darn/patcher/module"
)

// edits are the modules that are loaded, or were, and the files that they come
// of, the latest last. A file has one numbering of its lines in the program, one in each
// module that comes of another text of it, and one in the client's editor, which
// shows the file as it is on the disk.
type edits []edited

// edited is a module; its Size is 0 if it is not loaded any more.
type edited struct {
	patcher.Image
	sources []module.Source
	*lazyCode
}

// lazyCode is what a module has code of, when somebody asks.
type lazyCode struct {
	read sync.Once
	has  *moduleCode
}

// with returns the edits of the modules that are loaded, of which e may know
// some already.
func (e edits) with(images []patcher.Image) edits {
	var now edits
	for _, known := range e {
		if !slices.Contains(images, known.Image) {
			known.Size = 0 // the client may still show what it comes of
			now = append(now, known)
		}
	}
images:
	for _, i := range images {
		for _, known := range e {
			if known.Image == i {
				now = append(now, known)
				continue images
			}
		}
		loaded := edited{Image: i, lazyCode: new(lazyCode)}
		if path := builder.KeptModule(i.Path, i.Module); path != "" {
			if m, err := module.Open(path); err == nil {
				loaded.sources = m.Manifest.Sources
			}
		}
		now = append(now, loaded)
	}
	return now
}

// without returns the edits as they are when a module is unloaded.
func (e edits) without(i patcher.Image) edits {
	now := slices.Clone(e)
	for k := range now {
		if now[k].Image == i {
			now[k].Size = 0
		}
	}
	return now
}

// source returns what a module knows of a file, nil if that is not among those
// that it changed.
func (e *edited) source(file string) *module.Source {
	for i := range e.sources {
		if e.sources[i].Path == file {
			return &e.sources[i]
		}
	}
	return nil
}

// at returns the module whose code is at an address, nil for the program's own.
func (e edits) at(addr uint64) *edited {
	for i := range e {
		if addr >= e[i].Base && addr-e[i].Base < e[i].Size {
			return &e[i]
		}
	}
	return nil
}

// shown is a file as the client's editor shows it.
type shown struct {
	file string // as the compiler names it
	// text describes it; nil: it is as the program has it, or unknown.
	text *module.Source
}

// shows returns how a file is shown that the client has at path; ok is false if
// no module changed it.
func (e edits) shows(path string) (s shown, ok bool) {
	if len(e) == 0 {
		return s, false
	}
	data, err := os.ReadFile(path)
	sum := sha256.Sum256(data)
	hash := hex.EncodeToString(sum[:])
	for i := len(e) - 1; i >= 0; i-- {
		for j := range e[i].sources {
			src := &e[i].sources[j]
			is := err == nil && src.SHA256 == hash
			switch {
			case src.Path == path:
			case !filepath.IsAbs(src.Path) && is && filepath.Base(src.Path) == filepath.Base(path): // -trimpath
			default:
				continue
			}
			if !ok {
				s.file, ok = src.Path, true
			}
			if is {
				s.text = src
				return s, true
			}
		}
	}
	return s, ok
}

// sameAs tells whether a module comes of the text that is shown.
func (s shown) sameAs(e *edited) bool {
	if e == nil || s.text == nil {
		return false
	}
	src := e.source(s.file)
	return src != nil && src.SHA256 == s.text.SHA256
}

// inCode returns which line of a module's code, or of the program's own (nil), a
// line is that the client sees; ok is false if it is not there.
func (s shown) inCode(e *edited, line int) (int, bool) {
	if s.sameAs(e) {
		return line, true
	}
	ok := true
	if s.text != nil {
		if line, ok = s.text.OldLine(line); !ok {
			return 0, false
		}
	}
	if e != nil {
		if src := e.source(s.file); src != nil {
			return src.NewLine(line)
		}
	}
	return line, true
}

// onScreen returns where the client sees a line of a module's code, or of the
// program's own (nil); ok is false if that text is gone.
func (s shown) onScreen(e *edited, line int) (int, bool) {
	if s.sameAs(e) {
		return line, true
	}
	ok := true
	if e != nil {
		if src := e.source(s.file); src != nil {
			if line, ok = src.OldLine(line); !ok {
				return 0, false
			}
		}
	}
	if s.text != nil {
		return s.text.NewLine(line)
	}
	return line, true
}
