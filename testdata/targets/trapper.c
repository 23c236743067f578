// Executes breakpoint instructions of its own, which would end it if nobody
// traced it, from when a tracer is there until SIGUSR1. On SIGUSR2 replaces
// itself with the program in its argument; with the argument --block it blocks
// all signals, with --undumpable it makes itself undumpable.
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

static volatile sig_atomic_t done, replace;

static void onDone(int s) { done = 1; }
static void onReplace(int s) { replace = 1; }

static int traced(void)
{
	char line[200];
	int pid = 0;
	FILE *f = fopen("/proc/self/status", "r");
	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "TracerPid: %d", &pid) == 1)
			break;
	if (f)
		fclose(f);
	return pid != 0;
}

int main(int argc, char **argv)
{
	sigset_t all;
	sigfillset(&all);
	if (argc == 2 && !strcmp(argv[1], "--block"))
		sigprocmask(SIG_BLOCK, &all, NULL);
	if (argc == 2 && !strcmp(argv[1], "--undumpable"))
		prctl(PR_SET_DUMPABLE, 0);
	signal(SIGUSR1, onDone);
	signal(SIGUSR2, onReplace);
	printf("ready\n");
	fflush(stdout);
	for (int n = 0; !done; n++) {
		if (replace)
			execv(argv[1], argv + 1);
		if (argc == 1 && traced()) {
			__asm__ volatile("int3");
			if (n % 100 == 0)
				printf("go\n");
			fflush(stdout);
		}
		usleep(200);
	}
	printf("done\n");
	fflush(stdout);
	for (;;) {
		sleep(1);
		printf("alive after\n");
		fflush(stdout);
	}
}
