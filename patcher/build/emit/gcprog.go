package emit

import (
	"encoding/binary"
	"fmt"
)

// runGCProgram runs a program that describes which words hold pointers and
// returns n of them. The language is described in runtime/mbitmap.go, at
// runGCProg, and internal/runtime/gc.
func runGCProgram(prog []byte, n int) ([]bool, error) {
	bits := make([]bool, 0, n)
	bad := fmt.Errorf("the program of pointer bits is broken after %d words", len(bits))
	varint := func() (int, bool) {
		v, k := binary.Uvarint(prog)
		if k <= 0 || v > 1<<40 {
			return 0, false
		}
		prog = prog[k:]
		return int(v), true
	}
	for len(prog) > 0 {
		op := prog[0]
		prog = prog[1:]
		count := int(op & 0x7f)
		switch {
		case op == 0:
			for len(bits) < n {
				bits = append(bits, false)
			}
			return bits[:n], nil
		case op&0x80 == 0: // count literal bits
			if len(prog) < (count+7)/8 {
				return nil, bad
			}
			for i := range count {
				bits = append(bits, prog[i/8]>>(i%8)&1 != 0)
			}
			prog = prog[(count+7)/8:]
			continue
		}
		// Repeat the last count bits.
		var ok bool
		if count == 0 {
			if count, ok = varint(); !ok {
				return nil, bad
			}
		}
		times, ok := varint()
		if !ok || count > len(bits) || count == 0 {
			return nil, bad
		}
		from := len(bits) - count
		for i := 0; i < times*count && len(bits) < n; i++ {
			bits = append(bits, bits[from+i])
		}
		if len(bits) > n+8 {
			return nil, bad
		}
	}
	return nil, bad
}
