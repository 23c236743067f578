// Threads that measure for how long they are kept from running, and write it
// into a file that they share with who wants to know: meter FILE THREADS BUSY
// PERIOD. The first BUSY threads read the clock in a loop and measure the time
// between two readings; the others wake up every PERIOD nanoseconds, one after
// another, and measure how late that was.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>

// One for each thread, in a cache line of its own.
struct slot {
	_Alignas(64) atomic_long beats; // how often it was measured
	atomic_long longest;            // ns; whoever reads it sets it to 0
};

static struct slot *slots;
static long threads, busy, period;
static long begun;

// For tests to patch: the first instruction is as long as a jump, and in one word.
__attribute__((noinline, aligned(16))) int answer(int n)
{
	int more;
	__asm__ volatile("movl $42, %0" : "=r"(more));
	return n + more;
}

// For a patch that stays.
__attribute__((noinline, aligned(16))) int kept(int n)
{
	int more;
	__asm__ volatile("movl $7, %0" : "=r"(more));
	return n + more;
}

static long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000 + t.tv_nsec;
}

static void beat(struct slot *s, long gap)
{
	long longest = atomic_load_explicit(&s->longest, memory_order_relaxed);
	while (gap > longest && !atomic_compare_exchange_weak(&s->longest, &longest, gap))
		;
	// After it: who sees the beat sees the gap that it has ended.
	atomic_fetch_add_explicit(&s->beats, 1, memory_order_release);
}

static void run(struct slot *s)
{
	for (long last = now(), t; ; last = t) {
		answer(1);
		t = now();
		beat(s, t - last);
	}
}

static void wake(struct slot *s)
{
	long due = begun + period + (s - slots - busy) * period / (threads - busy);
	for (;;) {
		struct timespec at = {due / 1000000000, due % 1000000000};
		while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
			;
		long t = now();
		beat(s, t - due);
		due += ((t - due) / period + 1) * period;
	}
}

static void *measure(void *slot)
{
	struct slot *s = slot;
	if (s - slots < busy)
		run(s);
	else
		wake(s);
	return NULL;
}

int main(int argc, char **argv)
{
	if (argc != 5)
		return 2;
	threads = atol(argv[2]);
	busy = atol(argv[3]);
	period = atol(argv[4]);
	int fd = open(argv[1], O_RDWR);
	slots = mmap(NULL, threads * sizeof *slots, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (slots == MAP_FAILED) {
		perror(argv[1]);
		return 1;
	}
	// A sleep is not to last longer for the sake of others.
	prctl(PR_SET_TIMERSLACK, 1);
	begun = now() + kept(0);
	pthread_attr_t small;
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 64 << 10);
	for (long i = 0; i < threads - 1; i++) {
		pthread_t t;
		if (pthread_create(&t, &small, measure, &slots[i])) {
			perror("pthread_create");
			return 1;
		}
	}
	printf("ready\n");
	fflush(stdout);
	measure(&slots[threads - 1]);
}
