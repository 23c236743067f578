package gotype

import "fmt"

// Name is a decoded abi.Name. The zero Name stands for none.
type Name struct {
	Addr, End uint64 // of its encoding
	Name, Tag string
	PkgPath   string
	Exported  bool
	Embedded  bool
	// PkgPathField is the address of its NameOff of the package path, 0 if it
	// has none; the field is not aligned.
	PkgPathField uint64
}

// ReadName decodes the name at addr. The encoding is described in
// internal/abi/type.go, at abi.Name.
func ReadName(img Image, addr uint64) (Name, error) {
	n, err := readName(img, addr)
	if err != nil || n.PkgPathField == 0 {
		return n, err
	}
	if off := int32(le32(img, n.PkgPathField)); off != 0 {
		path, err := readName(img, img.Types(addr)+uint64(int64(off)))
		if err != nil {
			return Name{}, err
		}
		n.PkgPath = path.Name
	}
	return n, nil
}

func readName(img Image, addr uint64) (Name, error) {
	bad := fmt.Errorf("no name at %#x", addr)
	flags, ok := img.Bytes(addr, 1)
	if !ok || flags[0]&^15 != 0 {
		return Name{}, bad
	}
	n := Name{Addr: addr, Exported: flags[0]&1 != 0, Embedded: flags[0]&8 != 0}
	at := addr + 1
	text := func() (string, bool) {
		size := 0
		for shift := 0; ; shift += 7 {
			b, ok := img.Bytes(at, 1)
			if !ok || shift > 14 {
				return "", false
			}
			at++
			size |= int(b[0]&127) << shift
			if b[0] < 128 {
				break
			}
		}
		b, ok := img.Bytes(at, size)
		if !ok || size > maxString {
			return "", false
		}
		at += uint64(size)
		return string(b), true
	}
	if n.Name, ok = text(); !ok {
		return Name{}, bad
	}
	if flags[0]&2 != 0 {
		if n.Tag, ok = text(); !ok {
			return Name{}, bad
		}
	}
	if flags[0]&4 != 0 {
		if _, ok := img.Bytes(at, 4); !ok {
			return Name{}, bad
		}
		n.PkgPathField = at
		at += 4
	}
	n.End = at
	return n, nil
}

func le32(img Image, addr uint64) uint32 {
	b, ok := img.Bytes(addr, 4)
	if !ok {
		return 0
	}
	return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
}
