package object

import (
	"debug/dwarf"
	"debug/elf"
	"encoding/binary"
	"slices"
	"strings"
	"sync"

	"github.com/darn-dev/darn/patcher/finding"
)

// debugInfo is the object's DWARF, relocated as if every section were at 0, so
// that an address is an offset in the section of the symbol.
type debugInfo struct {
	o    *Object
	info []byte // .debug_info
	data *dwarf.Data
	// units are the compile units, in the order of their offsets.
	units    []unit
	typedefs func() ([]typedef, error) // readTypedefs, done once

	mu         sync.Mutex
	names      map[dwarf.Offset]string // of types
	localsAt   map[Place]localTypeAt   // see readLocals
	localTypes map[string]*local       // see locals
}

// debugInfo returns the object's DWARF, read once, as far as Compare needs it.
// An object without is refused with unsupported-build.
func (o *Object) debugInfo() (*debugInfo, error) {
	o.debugOnce.Do(func() { o.debug, o.debugErr = o.readDebug() })
	return o.debug, o.debugErr
}

func (o *Object) readDebug() (*debugInfo, error) {
	sections, err := o.DWARF(func(sym int) uint64 { return o.Symbols[sym].Offset },
		"abbrev", "info", "str", "line_str", "str_offsets", "addr") // not where variables are
	if err != nil {
		return nil, err
	}
	d, err := dwarf.New(sections["abbrev"], nil, nil, sections["info"], nil, nil, nil, sections["str"])
	if err != nil {
		return nil, malformed("DWARF: %v", err)
	}
	for _, name := range []string{"addr", "line_str", "str_offsets"} {
		if sections[name] != nil {
			if err := d.AddSection(".debug_"+name, sections[name]); err != nil {
				return nil, malformed("DWARF: %v", err)
			}
		}
	}
	info := &debugInfo{o: o, info: sections["info"], data: d, names: map[dwarf.Offset]string{}}
	if info.units, err = info.readUnits(); err != nil {
		return nil, err
	}
	info.typedefs = sync.OnceValues(info.readTypedefs)
	return info, nil
}

// DWARF reads the sections of the names, without ".debug_", as far as there are
// any, with symbols at the addresses that at gives: of a symbol that is not
// loaded that must be its offset. An object without debugging information is
// refused with unsupported-build.
func (o *Object) DWARF(at func(sym int) uint64, names ...string) (map[string][]byte, error) {
	f, err := elf.NewFile(o.file)
	if err != nil {
		return nil, err
	}
	sections := map[string][]byte{}
	for i, s := range f.Sections {
		name, ok := strings.CutPrefix(s.Name, ".debug_")
		if !ok || !slices.Contains(names, name) {
			continue
		}
		data, err := s.Data()
		if err != nil {
			return nil, malformed("section %s: %v", s.Name, err)
		}
		for _, r := range f.Sections {
			if r.Type == elf.SHT_RELA && int(r.Info) == i {
				rela, err := r.Data()
				if err != nil {
					return nil, malformed("section %s: %v", r.Name, err)
				}
				if err := o.relocate(data, rela, at); err != nil {
					return nil, err
				}
			}
		}
		sections[name] = data
	}
	if len(sections["info"]) == 0 {
		return nil, finding.Refuse(finding.UnsupportedBuild, "the object has no debugging information (DWARF)",
			"build without -ldflags=-w")
	}
	return sections, nil
}

// relocate applies the relocations in rela to data.
func (o *Object) relocate(data, rela []byte, at func(sym int) uint64) error {
	le := binary.LittleEndian
	for ; len(rela) >= relaSize; rela = rela[relaSize:] {
		off, info, addend := le.Uint64(rela), le.Uint64(rela[8:]), le.Uint64(rela[16:])
		if info>>32 >= uint64(len(o.Symbols)) {
			return malformed("DWARF relocation against symbol %d of %d", info>>32, len(o.Symbols))
		}
		value := at(int(info>>32)) + addend
		size := uint64(8)
		if t := elf.R_X86_64(uint32(info)); t == elf.R_X86_64_32 {
			size = 4
		} else if t != elf.R_X86_64_64 && t != elf.R_X86_64_DTPOFF64 {
			return malformed("DWARF relocation of type %v", t)
		}
		if off > uint64(len(data)) || size > uint64(len(data))-off {
			return malformed("DWARF relocation outside its section")
		}
		if size == 4 {
			le.PutUint32(data[off:], uint32(value))
		} else {
			le.PutUint64(data[off:], value)
		}
	}
	return nil
}
