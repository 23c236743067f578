// Calls a function all the time and prints what it says. On SIGUSR1 it restricts
// itself, in the one thread that it knows of; on SIGUSR2 it forks a child, which does
// the same until its parent ends; on SIGHUP its first thread ends, and on SIGINT the
// second, with which it does.
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t restricts, forks, leaves, ends;

static void on(int s)
{
	if (s == SIGUSR1)
		restricts = 1;
	if (s == SIGUSR2)
		forks = 1;
	if (s == SIGHUP)
		leaves = 1;
	if (s == SIGINT)
		ends = 1;
}

// For tests to patch; long enough for a jump.
__attribute__((noinline)) int answer(int n)
{
	__asm__ volatile("" : "+r"(n));
	return n + 42;
}

static void *work(void *arg)
{
	for (long n = 0; !ends; n++) {
		int a = answer(0);
		if (n % 1000000 == 0)
			printf("%s%d answer=%d\n", *(char **)arg, getpid(), a);
	}
	return NULL;
}

int main(void)
{
	static char *who = "";
	pthread_t thread;
	struct sigaction a = {.sa_handler = on};
	setvbuf(stdout, NULL, _IOLBF, 0);
	sigaction(SIGUSR1, &a, NULL);
	sigaction(SIGUSR2, &a, NULL);
	sigaction(SIGHUP, &a, NULL);
	sigaction(SIGINT, &a, NULL);
	pthread_create(&thread, NULL, work, &who);
	while (!leaves) {
		usleep(2000);
		if (restricts) {
			restricts = 0;
			if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
				return 3;
		}
		if (forks) {
			pid_t parent = getpid();
			forks = 0;
			if (fork() == 0) {
				prctl(PR_SET_PDEATHSIG, SIGKILL);
				if (getppid() != parent)
					return 0;
				for (;;)
					answer(0);
			}
		}
	}
	pthread_exit(NULL);
}
