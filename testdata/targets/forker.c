// On each SIGUSR1 forks a child, which does nothing until its parent ends.
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

static void on(int s) {}

int main(void)
{
	sigset_t set, old;
	struct sigaction a = {.sa_handler = on};
	sigaction(SIGUSR1, &a, NULL);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, &old);
	printf("ready\n");
	fflush(stdout);
	for (;;) {
		sigsuspend(&old);
		pid_t parent = getpid(), child = fork();
		if (child == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (getppid() != parent)
				return 0;
			for (;;)
				pause();
		}
		printf("child %d\n", child);
		fflush(stdout);
	}
}
