// A server of the old kind: a master that forks workers, and more when told to.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static volatile int one = 1;
__attribute__((noinline, noclone)) int answer(int n) { return n + one; }

static volatile sig_atomic_t more;
static void again(int s) { more = s; }

static void worker(int number)
{
	for (int n = 0;; n++) {
		printf("worker %d says %d\n", number, answer(41));
		usleep(20000);
	}
}

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGUSR1, again);
	for (int n = 0;; n++) {
		if (n < 2 || more) {
			more = 0;
			if (fork() == 0)
				worker(n < 2 ? n : 2);
		}
		printf("master says %d\n", answer(41));
		if (n > 1)
			usleep(20000);
		if (more == 0 && n > 1)
			n = 2;
	}
}
