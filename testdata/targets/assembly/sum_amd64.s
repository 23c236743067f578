#include "textflag.h"

// sum uses registers as assembly may.
TEXT ·sum(SB), NOSPLIT, $16-16
	MOVQ x+0(FP), AX
	MOVQ AX, 0(SP)
	MOVQ $0x1234, R14
	MOVQ $7, R13
	CALL ·helper(SB)
	MOVQ 8(SP), AX
	ADDQ R13, AX
	MOVQ AX, ret+8(FP)
	RET

TEXT ·helper(SB), NOSPLIT, $0-16
	MOVQ x+0(FP), AX
	ADDQ $100, AX
	MOVQ AX, ret+8(FP)
	RET
