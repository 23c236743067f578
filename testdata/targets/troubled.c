// Asks for an answer again and again, and prints it. Makes trouble when asked to:
// SIGUSR1 forks a child that goes on as it does, SIGUSR2 replaces the program by
// itself, SIGHUP forbids it to map memory (seccomp), SIGALRM ends it with status 7,
// SIGPROF takes all the memory that there is.
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static volatile sig_atomic_t trouble;

static void onTrouble(int s) { trouble = s; }

__attribute__((noinline)) int answer(int n)
{
	__asm__ volatile("nop; nop; nop; nop" : "+r"(n));
	return n + 42;
}

static int forbid(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 3, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_memfd_create, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mprotect, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
	};
	struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

int main(int argc, char **argv)
{
	const int all[] = {SIGUSR1, SIGUSR2, SIGHUP, SIGALRM, SIGPROF};
	for (int i = 0; i < 5; i++)
		signal(all[i], onTrouble);
	for (int n = 0;; n = (n + 1) % 10) {
		int s = trouble;
		trouble = 0;
		if (s == SIGUSR1 && fork() == 0)
			printf("child\n");
		if (s == SIGUSR2) {
			sigset_t none;
			sigemptyset(&none);
			sigprocmask(SIG_SETMASK, &none, NULL);
			execv("/proc/self/exe", argv);
		}
		if (s == SIGALRM)
			_exit(7);
		while (s == SIGPROF)
			memset(malloc(1 << 20), 1, 1 << 20);
		if (s == SIGHUP && forbid())
			printf("not forbidden\n");
		printf("%d\n", answer(n) - n);
		fflush(stdout);
		usleep(2000);
	}
}
