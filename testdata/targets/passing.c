// Threads that come and go: each computes for a moment and ends, and the next is made.
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

static atomic_long ended;

static void *pass(void *arg)
{
	for (volatile int i = 0; i < 20000; i++)
		;
	atomic_fetch_add(&ended, 1);
	return arg;
}

static void *make(void *arg)
{
	for (;;) {
		pthread_t thread;
		if (pthread_create(&thread, NULL, pass, NULL) == 0)
			pthread_join(thread, NULL);
	}
	return arg;
}

int main(void)
{
	pthread_t thread;
	if (pthread_create(&thread, NULL, make, NULL) != 0)
		return 1;
	setbuf(stdout, NULL);
	printf("ready\n");
	for (;;) {
		usleep(100000);
		printf("%ld\n", atomic_load(&ended));
	}
}
