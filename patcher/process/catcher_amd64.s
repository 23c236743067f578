#include "textflag.h"

// The catcher, which is copied into the target and runs nowhere else (catcher.go).
// What it leaves in registers does not matter: the kernel puts them back.
TEXT catcher<>(SB), NOSPLIT|NOFRAME, $0-0
	// Where a handler returns to.
	MOVL $15, AX // rt_sigreturn
	SYSCALL
	PCALIGN $16

	// The handler; the siginfo is at SI, the ucontext at DX.
	CMPL 8(SI), $0x80 // si_code: SI_KERNEL, for an int3
	JEQ  hit
	// A halt that nobody wants any more, or a step: it is the last.
	ANDL $~0x100, 0xb0(DX) // the flag TF
	RET

hit:
	// It is behind the int3, unless the tracer has set it back already. Only the
	// guardian can tell, which says where there were breakpoints.
	MOVQ DX, R13
	MOVQ 0xa8(DX), BX
	LEAQ catcher<>(SB), R14
	ADDQ $0x1400, R14 // catcherTable
	MOVL $10000, R12

look:
	MOVQ 0(R14), CX
	TESTQ CX, CX
	JNE  known
	LEAQ -64(SP), DI
	MOVQ $0, 0(DI)
	MOVQ $1000000, 8(DI) // a millisecond
	XORL SI, SI
	MOVL $35, AX // nanosleep
	SYSCALL
	DECL R12
	JNE  look

	// Nobody comes. What handled it before gets it.
	MOVL $13, AX // rt_sigaction
	MOVL $5, DI  // SIGTRAP
	LEAQ -0x400(R14), SI // catcherOld
	XORL DX, DX
	MOVL $8, R10
	SYSCALL
	CMPB -1(BX), $0xcc
	JEQ  back
	RET

known:
	DECQ CX // one more than there are
	JEQ  leave
	MOVQ (R14)(CX*8), AX
	INCQ AX
	CMPQ AX, BX
	JNE  known

back:
	DECQ 0xa8(R13)

leave:
	RET

	// Where it ends.
	LONG $0x6e726164
	LONG $0x646e652e

// func catcherAddress() uintptr
TEXT ·catcherAddress(SB), NOSPLIT, $0-8
	LEAQ catcher<>(SB), AX
	MOVQ AX, ret+0(FP)
	RET
