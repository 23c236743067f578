// What a diverted thread runs: see divert.go, which has it assembled. %rbx is the
// address of its page, %rsp the end of a stack of its own; all other registers
// are free, as the page has the thread's.
	.text
	cld
	// No signal may come: a handler could leave by longjmp, or not return soon.
	mov $14, %eax                   // rt_sigprocmask(SIG_SETMASK, blocked, 0, 8)
	mov $2, %edi
	lea 56(%rbx), %rsi
	xor %edx, %edx
	mov $8, %r10d
	syscall
	mov $0x800e7, %eax              // x87, SSE, AVX, AVX-512, APX
	xor %edx, %edx
	xsave64 0x1000(%rbx)
	fninit
	ldmxcsr 80(%rbx)
	call *48(%rbx)                  // __errno_location()
	mov %rax, %r12
	mov (%rax), %r13d
	mov 32(%rbx), %rdi
	mov $2, %esi                    // RTLD_NOW, and RTLD_LOCAL, which is 0
	call *24(%rbx)                  // dlopen(path, flags)
	mov %rax, 8(%rbx)
	test %rax, %rax
	jnz 1f
	call *40(%rbx)                  // dlerror()
	test %rax, %rax
	jz 1f
	mov %rax, %rsi
	lea 512(%rbx), %rdi
	mov $511, %ecx
	cld
0:	lodsb
	stosb
	test %al, %al
	loopnz 0b
1:	mov %r13d, (%r12)
	mov $0x800e7, %eax
	xor %edx, %edx
	xrstor64 0x1000(%rbx)
	// A signal that has come meanwhile interrupts the system call as it would
	// have done, if its handler asks for no restart.
	mov $127, %eax                  // rt_sigpending(pending, 8)
	lea 72(%rbx), %rdi
	mov $8, %esi
	syscall
	mov 64(%rbx), %r14
	not %r14
	and 72(%rbx), %r14
2:	bsf %r14, %r15
	jz 4f
	lea -1(%r14), %rax
	and %rax, %r14
	mov $13, %eax                   // rt_sigaction(signal, 0, action, 8)
	lea 1(%r15), %edi
	xor %esi, %esi
	lea 288(%rbx), %rdx
	mov $8, %r10d
	syscall
	cmpq $1, 288(%rbx)              // SIG_DFL, SIG_IGN
	jbe 2b
	cmpl $1, 88(%rbx)
	jb 4f
	je 3f
	testl $0x10000000, 296(%rbx)    // SA_RESTART
	jnz 2b
3:	movq $-4, 128(%rbx)             // EINTR
	mov 96(%rbx), %rax
	mov %rax, 256(%rbx)
4:	pushq 264(%rbx)
	popfq
	// From here on no instruction changes flags, and handlers find the stack that
	// is the thread's own.
	mov 184(%rbx), %rsp
	movl $1, (%rbx)
	mov $14, %eax                   // rt_sigprocmask(SIG_SETMASK, mask, 0, 8)
	mov $2, %edi
	lea 64(%rbx), %rsi
	mov $0, %edx
	mov $8, %r10d
	syscall
	mov 128(%rbx), %rax
	mov 152(%rbx), %rdx
	mov 160(%rbx), %rsi
	mov 168(%rbx), %rdi
	mov 176(%rbx), %rbp
	mov 192(%rbx), %r8
	mov 200(%rbx), %r9
	mov 208(%rbx), %r10
	mov 216(%rbx), %r11
	mov 224(%rbx), %r12
	mov 232(%rbx), %r13
	mov 240(%rbx), %r14
	mov 248(%rbx), %r15
	mov 256(%rbx), %rcx             // as the kernel leaves it behind a system call
	mov 136(%rbx), %rbx
	jmp *%rcx
