package loaded

import (
	"debug/elf"
	"encoding/binary"

	"github.com/darn-dev/darn/patcher/process"
)

var le = binary.LittleEndian

// TLS is where an object's thread-local block is.
type TLS struct {
	// Module is its number for __tls_get_addr.
	Module uint64
	// Offset is that of the block from the thread pointer, if Static: then every
	// thread has it there.
	Offset int64
	Static bool
}

// The C library tells debuggers where it keeps these in its own structures
// (nptl_db), by symbols each of which leads to {bits, count, offset}.
const (
	moduleField = "_thread_db_link_map_l_tls_modid"
	offsetField = "_thread_db_link_map_l_tls_offset"
	// What the GNU C library has in l_tls_offset for a block that is not at a
	// fixed place (NO_TLS_OFFSET, FORCED_DYNAMIC_TLS_OFFSET).
	noOffset      = 0
	dynamicOffset = ^uint64(0)
)

// TLS finds an object's thread-local block; ok is false if the object has none,
// or it can't be known where.
func (s *Set) TLS(p *process.Process, x *Object) (t TLS, ok bool) {
	if x.Program {
		// The first of all, right below the thread pointer (variant II of the
		// x86-64 psABI).
		for _, h := range x.elf.Progs {
			if h.Type == elf.PT_TLS {
				align := max(h.Align, 1)
				size := (h.Memsz + align - 1) / align * align
				return TLS{Module: 1, Offset: -int64(size), Static: true}, true
			}
		}
		return t, false
	}
	module, ok1 := s.field(p, x, moduleField)
	offset, ok2 := s.field(p, x, offsetField)
	if !ok1 || !ok2 || module == 0 {
		return t, false
	}
	return TLS{Module: module, Offset: -int64(offset), Static: offset != noOffset && offset != dynamicOffset}, true
}

// field reads a field of an object's link_map that the C library describes.
func (s *Set) field(p *process.Process, x *Object, name string) (uint64, bool) {
	for _, o := range s.Objects {
		found := o.Named(name)
		if len(found) == 0 {
			continue
		}
		var desc [12]byte
		var value [8]byte
		if p.ReadMemory(desc[:], found[0].Addr) != nil || x.linkMap == 0 {
			return 0, false
		}
		at := x.linkMap + uint64(le.Uint32(desc[8:]))
		if le.Uint32(desc[0:]) != 64 || p.ReadMemory(value[:], at) != nil {
			return 0, false
		}
		return le.Uint64(value[:]), true
	}
	return 0, false
}
