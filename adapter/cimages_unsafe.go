package adapter

import (
	"debug/dwarf"
	"debug/elf"
	"encoding/binary"
	"reflect"
	"unsafe"

	"github.com/go-delve/delve/pkg/dwarf/frame"
	"github.com/go-delve/delve/pkg/dwarf/godwarf"
	"github.com/go-delve/delve/pkg/proc"
	"github.com/go-delve/delve/pkg/proc/linutil"
)

// cImages tells Delve what it does not find out by itself of programs and libraries
// that C compilers have made. Its methods need the target stopped and locked.
type cImages struct {
	dynamic       uint64 // where the program's dynamic section is
	framed, sized int    // how many images are done
	seen          map[godwarf.Type]bool
}

// update tells Delve of the libraries that are loaded, at a stop. At every one it
// would look for itself, but by a thread of the stop before, and if that one has
// ended meanwhile it never gets any further. Go's threads do not end, those of C do.
// So it is made to leave that alone: it does where there is no dynamic section.
func (c *cImages) update(target *proc.Target) {
	bi := target.BinInfo()
	if bi.ElfDynamicSection.Addr != 0 {
		c.dynamic = bi.ElfDynamicSection.Addr
	}
	bi.ElfDynamicSection.Addr = c.dynamic
	_ = linutil.ElfUpdateSharedObjects(target) // what is not known yet is at the next stop
	bi.ElfDynamicSection.Addr = 0
	noDownloads(bi)
	c.addFrames(bi)
}

// framePointer is rbp in the numbering of DWARF.
const framePointer = 6

// bodyOf returns where the body of a function of C begins: behind a prologue that
// makes a frame, as code that is not optimised has it, and before which there are no
// arguments where the debugging information has them. Few compilers say where it
// ends, but the table of lines has a row for what is behind it, though that may be on
// the same line.
func bodyOf(bi *proc.BinaryInfo, fn *proc.Function) uint64 {
	image := bi.PCToImage(fn.Entry)
	data := dwarfOf(image)
	if data == nil {
		return fn.Entry
	}
	unit, err := data.Reader().SeekPC(fn.Entry - image.StaticBase)
	if err != nil {
		return fn.Entry
	}
	lines, err := data.LineReader(unit)
	if err != nil || lines == nil {
		return fn.Entry
	}
	// The rows are in the order of addresses in each part of the table only.
	var row dwarf.LineEntry
	entry, inside := fn.Entry-image.StaticBase, false
	for {
		if err := lines.Next(&row); err != nil {
			return fn.Entry
		}
		if inside && (row.EndSequence || row.Address > entry) {
			break
		}
		inside = row.Address == entry && !row.EndSequence
	}
	body := row.Address + image.StaticBase
	frames := biField(bi, "frameEntries").Addr().Interface().(*frame.FrameDescriptionEntries)
	fde, err := frames.FDEForPC(body)
	if err != nil || row.EndSequence || body >= fn.End {
		return fn.Entry
	}
	if at, err := fde.EstablishFrame(body); err != nil || at.CFA.Reg != framePointer {
		return fn.Entry
	}
	return body
}

// imageDWARF is where an image keeps what was read of its debugging information.
var imageDWARF = func() uintptr {
	f, ok := reflect.TypeFor[proc.Image]().FieldByName("dwarf")
	if !ok || f.Type != reflect.TypeFor[*dwarf.Data]() {
		panic("darn: this version of Delve keeps debugging information elsewhere: build with the version in go.mod")
	}
	return f.Offset
}()

func dwarfOf(image *proc.Image) *dwarf.Data {
	return *(**dwarf.Data)(unsafe.Add(unsafe.Pointer(image), imageDWARF))
}

// addFrames lets Delve find the callers of functions in libraries that have no
// debugging information. It leaves their .eh_frame out, and would take rbp for a
// frame pointer, which in optimised code it is not.
func (c *cImages) addFrames(bi *proc.BinaryInfo) {
	for ; c.framed < len(bi.Images); c.framed++ {
		image := bi.Images[c.framed]
		if dwarfOf(image) != nil {
			continue
		}
		f, err := elf.Open(image.Path)
		if err != nil {
			continue
		}
		if s := f.Section(".eh_frame"); s != nil && s.Type == elf.SHT_PROGBITS {
			if data, err := s.Data(); err == nil {
				if more, err := frame.Parse(data, binary.LittleEndian, image.StaticBase, bi.Arch.PtrSize(), s.Addr); err == nil {
					frames := biField(bi, "frameEntries").Addr().Interface().(*frame.FrameDescriptionEntries)
					*frames = (*frames).Append(more)
				}
			}
		}
		f.Close()
	}
}

// sizeArrays gives arrays their sizes: C compilers leave them to be computed, and
// Delve, which does not, would show the first element in the place of each.
func (c *cImages) sizeArrays(bi *proc.BinaryInfo) {
	if c.seen == nil {
		c.seen = make(map[godwarf.Type]bool)
	}
	for ; c.sized < len(bi.Images); c.sized++ {
		image := bi.Images[c.sized]
		data := dwarfOf(image)
		if data == nil {
			continue
		}
		for r := data.Reader(); ; {
			entry, err := r.Next()
			if entry == nil || err != nil {
				break
			}
			if entry.Tag != dwarf.TagArrayType {
				continue
			}
			if t, err := image.Type(entry.Offset); err == nil {
				c.size(t)
			}
		}
	}
}

// size sizes an array and those that its elements are.
func (c *cImages) size(t godwarf.Type) {
	array, ok := t.(*godwarf.ArrayType)
	if !ok || c.seen[t] {
		return
	}
	c.seen[t] = true
	c.size(array.Type)
	if array.ByteSize <= 0 && array.Count > 0 {
		array.ByteSize = array.Type.Size() * array.Count
	}
}
