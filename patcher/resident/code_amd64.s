#include "textflag.h"
#include "layout.h"

// The code of the thread, which is copied into the target and runs nowhere else.
// It uses neither a stack nor a thread pointer, and touches no memory but the page
// that it shares with Darn, whose address is in SP, and what a request names.
TEXT code<>(SB), NOSPLIT|NOFRAME, $0-0
	SYSCALL // clone, by a thread of the target
	TESTQ AX, AX
	JEQ  begin

	// That does not come here, unless Darn is killed just now: the guardian gets it
	// away.
stay:
	JMP  stay

begin:
	MOVQ SP, BX
	// What could be sent to it before was blocked already, but for what a tracer
	// has to let through.
	MOVL $SYS_rt_sigprocmask, AX
	MOVL $SIG_SETMASK, DI
	LEAQ SIGNALS(BX), SI
	XORL DX, DX
	MOVL $8, R10
	SYSCALL
	MOVL $SYS_prctl, AX
	MOVL $PR_SET_NAME, DI
	LEAQ NAME(BX), SI
	SYSCALL

wait:
	MOVL STATE(BX), DX
	CMPL DX, $ASKED
	JEQ  asked
	CMPL DX, $LEAVING
	JEQ  leave
	MOVL $SYS_futex, AX
	MOVQ BX, DI
	MOVL $FUTEX_WAIT, SI
	LEAQ TIMEOUT(BX), R10
	SYSCALL
	CMPL AX, $-ETIMEDOUT
	JNE  wait

	// Nobody has asked for a while. The Darn that made the thread holds a lock
	// as long as it lives; if that is gone, or can't be asked for since the
	// program has closed the file, so is the thread.
	MOVQ $F_WRLCK, FLOCK(BX) // l_type and l_whence
	MOVQ LOCKED(BX), AX
	MOVQ AX, (FLOCK+8)(BX)
	MOVQ $1, (FLOCK+16)(BX)
	MOVQ $0, (FLOCK+24)(BX)
	MOVL $SYS_fcntl, AX
	MOVL FILE(BX), DI
	MOVL $F_OFD_GETLK, SI
	LEAQ FLOCK(BX), DX
	SYSCALL
	TESTL AX, AX
	JMI  alone
	CMPW FLOCK(BX), $F_UNLCK
	JNE  wait

alone:
	MOVL STATE(BX), AX
	CMPL AX, $ASKED
	JEQ  asked
	MOVL $LEAVING, CX
	LOCK
	CMPXCHGL CX, STATE(BX)
	JNE  alone

leave:
	MOVL $SYS_exit, AX
	XORL DI, DI
	SYSCALL
	JMP  leave

asked:
	MOVL $ASKED, AX
	MOVL $RUNNING, CX
	LOCK
	CMPXCHGL CX, STATE(BX)
	JNE  wait
	XORL R13, R13 // whether one has failed
	LEAQ REQUESTS(BX), R12
	MOVL COUNT(BX), R15

next:
	TESTL R15, R15
	JEQ  done
	MOVL FLAGS(R12), DX
	TESTL R13, R13
	JEQ  do
	TESTL $ALWAYS, DX
	JEQ  skip

do:
	TESTL $EXCHANGE, DX
	JNE  exchange
	MOVL NUMBER(R12), AX
	MOVQ (ARGS+0)(R12), DI
	MOVQ (ARGS+8)(R12), SI
	MOVQ (ARGS+16)(R12), DX
	MOVQ (ARGS+24)(R12), R10
	MOVQ (ARGS+32)(R12), R8
	MOVQ (ARGS+40)(R12), R9
	SYSCALL
	MOVQ AX, RESULT(R12)
	CMPQ AX, $-4095
	JCS  skip
	MOVL $1, R13
	JMP  skip

exchange:
	MOVQ (ARGS+0)(R12), DI
	MOVQ (ARGS+8)(R12), AX
	MOVQ (ARGS+16)(R12), CX
	LOCK
	CMPXCHGQ CX, 0(DI)
	JEQ  exchanged
	MOVQ $-11, RESULT(R12) // EAGAIN
	MOVL $1, R13
	JMP  skip

exchanged:
	MOVQ $0, RESULT(R12)

skip:
	ADDQ $SIZE, R12
	DECL R15
	JMP  next

done:
	MOVL $ANSWERED, AX
	XCHGL AX, STATE(BX)
	MOVL $SYS_futex, AX
	MOVQ BX, DI
	MOVL $FUTEX_WAKE, SI
	MOVL $1, DX
	SYSCALL
	JMP  wait

	// Where it ends.
	LONG $0x6e726164
	LONG $0x646e652e

// func codeAddress() uintptr
TEXT ·codeAddress(SB), NOSPLIT, $0-8
	LEAQ code<>(SB), AX
	MOVQ AX, ret+0(FP)
	RET
