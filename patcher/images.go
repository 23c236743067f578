package patcher

import "context"

// Image is a loaded module as a debugger wants to know it.
type Image struct {
	Path   string // of the file that it was loaded from; see there whether it still is Module
	Module string // sha256 of that file as it was then, hex
	Base   uint64 // what its addresses count from
	Size   uint64 // bytes
}

// Images returns the modules that are loaded, in the order of their loading.
// The target is not touched. Refused with busy.
func (e *Engine) Images(ctx context.Context) ([]Image, error) {
	end, err := e.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	var images []Image
	for _, p := range e.reg.Patches {
		images = append(images, Image{Path: p.Path, Module: p.Module, Base: p.Base, Size: p.Size})
	}
	return images, nil
}
