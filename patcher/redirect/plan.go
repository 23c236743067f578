// Package redirect knows x86-64: how long an instruction is and what it
// refers to, how a function's entry is turned into a jump, and what the jump
// leads to. All of it is pure functions over bytes: nothing here touches a
// process, so everything can be decided and built before a target is halted.
//
// A redirected function looks like this (see Plan for the exception):
//
//	entry:  jmp stub            // after endbr64, if there is one
//	stub:   cmpb $0, switch(%rip)
//	        jne  new code
//	        nop                 // or jmp to the stub of the patch below
//	thunk:  the instructions the jmp took the place of
//	        jmp  entry+Offset+Span
//
// While no switch is set the entry may be the jmp to the new code, or as it was, if
// one store changes it: see OneStore and Plan.Reaches.
package redirect

// JumpSize is how many bytes of an entry a redirect overwrites.
const JumpSize = 5

// ThunkSize is the most bytes a thunk takes: two short conditional jumps that
// grow from 2 to 6 bytes, one instruction of 15, and the jump back.
const ThunkSize = 2*6 + maxLen + JumpSize

// Encoding says how an entry leads to the new code.
type Encoding string

const (
	// JumpEncoding is jmp rel32 to a stub, over the first whole instructions,
	// which move to a thunk. The patch is toggled by its switch.
	JumpEncoding Encoding = "jump"
	// SingleEncoding is as JumpEncoding, but one store that alters nothing but
	// the first instruction makes the redirect, while threads run: see OneStore.
	SingleEncoding Encoding = "single"
	// DirectEncoding is jmp rel32 straight to the new code, because the first
	// instructions must not run elsewhere (Plan.Reason says why). The patch
	// is toggled by writing the entry.
	DirectEncoding Encoding = "direct"
)

// Plan says how the entry of one function is redirected.
type Plan struct {
	// Entry is the function's address in the target.
	Entry uint64
	// Encoding is what the entry's instructions allow.
	Encoding Encoding
	// Offset is where the jmp is written, in bytes from Entry: 0, or 4 after
	// an endbr64.
	Offset int
	// Old is the JumpSize bytes that the redirect overwrites.
	Old []byte
	// Span is the length in bytes of the whole instructions that the jmp
	// covers, at least JumpSize but with SingleEncoding. While the entry is written no thread and no
	// goroutine may have a PC strictly between Entry+Offset and
	// Entry+Offset+Span, nor a return address there.
	Span int
	// Single is true if nothing is altered but the first instruction: then no
	// PC can be in the middle of the bytes that are written.
	Single bool
	// Reason says why Encoding is DirectEncoding; empty otherwise.
	Reason string
	// StackCheck is true, with SingleEncoding, if the first instruction is Go's
	// check of the stack's bound.
	StackCheck bool

	covered  []byte // the Span bytes at Offset
	mayFault bool   // instructions that may fault can move
}
