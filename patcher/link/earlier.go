package link

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/module"
)

// required is a module that was loaded earlier and that this one builds on. Its
// ID is a hash of its file, so that what the builder found in that is where it
// was.
type required struct {
	at   Range
	text uint64
}

// require finds the modules that are required.
func (b *binder) require() error {
	b.earlier = make(map[string]required, len(b.m.Manifest.Requires))
	for i := range b.m.Manifest.Requires {
		x := &b.m.Manifest.Requires[i]
		r, ok := b.t.Module(x.ID)
		if !ok {
			return finding.Refuse(finding.NotLoaded,
				fmt.Sprintf("the module shares what the patch %s (sha256 %s) added to the program, and that is not loaded", x.Name, x.ID),
				"load that one first, or build the module anew for the patches that are loaded")
		}
		switch {
		case r.Start > r.End || x.Size > r.End-r.Start || x.Text > x.Size:
			return malformed("it requires the patch %s with %d bytes, which has %d", x.Name, x.Size, r.End-r.Start)
		case r.Start > b.image.Base:
			// An offset of a type that leads upwards, out of the module, would end
			// the program (resolveTypeOff in runtime/type.go).
			return fmt.Errorf("link: a module that requires the one at %#x can't be placed at %#x", r.Start, b.image.Base)
		}
		b.earlier[x.ID] = required{Range{r.Start, r.Start + x.Size}, r.Start + x.Text}
	}
	if g := b.m.Manifest.Go; g != nil {
		b.imports = make(map[string]*module.Import, len(g.Imports))
		for i := range g.Imports {
			b.imports[g.Imports[i].Symbol] = &g.Imports[i]
		}
	}
	return nil
}

// imported returns the address of n bytes at an offset in a required module.
func (b *binder) imported(id string, off, n uint64) (uint64, error) {
	r, ok := b.earlier[id]
	if !ok || off > math.MaxUint32 || !r.at.Holds(r.at.Start+off, n) {
		return 0, malformed("it refers to %d bytes at %#x of the module %q, which it does not require or which has none there", n, off, id)
	}
	return r.at.Start + off, nil
}

// importedType returns the address of a type of a required module.
func (b *binder) importedType(x *module.TypeBinding) (uint64, error) {
	addr, err := b.imported(x.Module, x.Offset, TypeBytes)
	if err != nil {
		return 0, err
	}
	var t [TypeBytes]byte
	if err := b.t.ReadMemory(t[:], addr); err != nil {
		return 0, err
	}
	le := binary.LittleEndian
	if hash, size, kind := le.Uint32(t[TypeHash:]), le.Uint64(t[TypeSize:]), t[TypeKind]&kindMask; hash != x.Hash || size != x.Size || kind != x.Kind&kindMask {
		return 0, b.wrongType(x, fmt.Sprintf("there is one with hash %#x, %d bytes, kind %d", hash, size, kind))
	}
	return addr, nil
}

// fillImported computes the write that gives a pruned method of a required
// module's type code.
func (b *binder) fillImported(f *module.MethodFill) (w Write, err error) {
	if f.Size != 4 || f.Offset < 0 || f.Offset%4 != 0 {
		return w, malformed("its method slot at %#x (%d bytes, %q) of a required module is none", f.Offset, f.Size, f.Symbol)
	}
	slot, err := b.imported(f.Module, uint64(f.Offset), 4)
	if err != nil {
		return w, err
	}
	to, err := b.address(f.Symbol)
	if err != nil {
		return w, err
	}
	off := to - b.earlier[f.Module].text
	if to < b.earlier[f.Module].text || off == 0 || off > math.MaxUint32 {
		return w, malformed("its method slot at %#x leads to %q at %#x, which no offset from %#x reaches", slot, f.Symbol, to, b.earlier[f.Module].text)
	}
	le := binary.LittleEndian
	return Write{Addr: slot, Old: le.AppendUint32(nil, prunedOffset), New: le.AppendUint32(nil, uint32(off))}, nil
}
