package object

import "golang.org/x/arch/x86/x86asm"

// access is a read from a closure's captured variables.
type access struct{ offset, size int64 }

// contextReads returns what a closure's code reads of the variables it
// captured: they lie behind the code pointer that DX points to at the entry.
// It follows the code for as long as DX holds that pointer. ok is false if the
// pointer goes elsewhere, so that reads may be missed.
//
// DWARF alone does not do: an optimised variable that never is in a register
// has no entry.
func contextReads(code []byte) (reads map[access]bool, ok bool) {
	reads = map[access]bool{}
	seen := make([]bool, len(code))
	for todo := []int{0}; len(todo) > 0; {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for at >= 0 && at < len(code) && !seen[at] {
			seen[at] = true
			in, err := x86asm.Decode(code[at:], 64)
			if err != nil {
				return nil, false
			}
			next := at + in.Len
			if to, is := in.Args[0].(x86asm.Rel); is && in.Op != x86asm.CALL {
				todo = append(todo, next+int(to))
			}
			for i, arg := range in.Args {
				switch a := arg.(type) {
				case x86asm.Mem:
					if a.Index == x86asm.RDX || a.Base == x86asm.RDX && (a.Index != 0 || in.Op == x86asm.LEA) {
						return nil, false
					}
					if a.Base == x86asm.RDX && in.Op != x86asm.NOP {
						reads[access{a.Disp, int64(in.MemBytes)}] = true
					}
				case x86asm.Reg:
					if i > 0 && isDX(a) && in.Op != x86asm.TEST && in.Op != x86asm.CMP && !(in.Op == x86asm.XOR && in.Args[0] == in.Args[1]) {
						return nil, false // copied
					}
				}
			}
			if reg, is := in.Args[0].(x86asm.Reg); is && isDX(reg) {
				switch in.Op {
				case x86asm.CMP, x86asm.TEST:
				case x86asm.PUSH:
					return nil, false
				default:
					next = -1 // overwritten
				}
			}
			switch in.Op {
			case x86asm.CALL, x86asm.JMP, x86asm.RET, x86asm.MUL, x86asm.IMUL, x86asm.DIV, x86asm.IDIV, x86asm.CQO, x86asm.CDQ:
				next = -1 // DX is gone, or the code goes on elsewhere
			}
			at = next
		}
	}
	delete(reads, access{0, 8}) // the code pointer
	return reads, true
}

func isDX(r x86asm.Reg) bool {
	return r == x86asm.RDX || r == x86asm.EDX || r == x86asm.DX || r == x86asm.DL || r == x86asm.DH
}

// unexplained returns those reads that no captured variable in DWARF covers.
func unexplained(reads map[access]bool, captured []variable) (rest []access) {
	for r := range reads {
		covered := false
		for _, v := range captured {
			covered = covered || r.offset >= v.offset && r.offset < v.offset+max(v.size, 1)
		}
		if !covered {
			rest = append(rest, r)
		}
	}
	return rest
}
