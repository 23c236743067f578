// Threads that compute and threads that wait in system calls of every way to be
// restarted, under signals at a high rate. Checks itself; ends with status 3
// and a line FAIL when anything is not as it must be.
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static atomic_long rounds, waits, alarms, queued, queuedSum;

static void fail(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	printf("FAIL ");
	vprintf(format, args);
	printf("\n");
	fflush(stdout);
	_exit(3);
}

// For tests to patch; long enough for a jump.
__attribute__((noinline)) int answer(int n)
{
	__asm__ volatile("nop; nop; nop; nop" : "+r"(n));
	return n + 42;
}

static void *compute(void *arg)
{
	double want = 0;
	for (long n = 0;; n++) {
		uint64_t sum = 0;
		double x = 1;
		for (uint64_t i = 1; i <= 20000; i++) {
			sum += i * i;
			x = sqrt(x * x + i);
		}
		if (sum != 20000ull * 20001 * 40001 / 6)
			fail("sum of squares is %lu", sum);
		if (n == 0)
			want = x;
		if (x != want)
			fail("%g is not %g", x, want);
		if (answer(n & 1023) != (n & 1023) + 42)
			fail("answer");
		atomic_fetch_add(&rounds, 1);
	}
	return arg;
}

static int ends[2];
static sem_t sem;

// Restarted as it is (ERESTARTSYS).
static void *reads(void *arg)
{
	for (;;) {
		char c;
		ssize_t n = read(ends[0], &c, 1);
		if (n == -1 && errno == EINTR)
			continue;
		if (n != 1 || c != 'x')
			fail("read: %zd, %s", n, strerror(errno));
		atomic_fetch_add(&waits, 1);
	}
	return arg;
}

// Restarted with the rest of its time (ERESTART_RESTARTBLOCK).
static void *sleeps(void *arg)
{
	for (;;) {
		struct timespec t = {0, 20000000};
		while (nanosleep(&t, &t) == -1)
			if (errno != EINTR)
				fail("nanosleep: %s", strerror(errno));
		atomic_fetch_add(&waits, 1);
	}
	return arg;
}

// Restarted without a handler only (ERESTARTNOHAND), with a mask of its own.
static void *polls(void *arg)
{
	sigset_t none;
	sigemptyset(&none);
	for (;;) {
		struct timespec t = {0, 10000000};
		int n = ppoll(NULL, 0, &t, &none);
		if (n != 0 && !(n == -1 && errno == EINTR))
			fail("ppoll: %d, %s", n, strerror(errno));
		sigset_t now;
		pthread_sigmask(SIG_SETMASK, NULL, &now);
		if (!sigismember(&now, SIGALRM) || !sigismember(&now, SIGRTMIN))
			fail("ppoll lost the signal mask");
		atomic_fetch_add(&waits, 1);
	}
	return arg;
}

// A futex.
static void *semaphores(void *arg)
{
	for (;;) {
		while (sem_wait(&sem) == -1)
			if (errno != EINTR)
				fail("sem_wait: %s", strerror(errno));
		atomic_fetch_add(&waits, 1);
	}
	return arg;
}

static void onAlarm(int s) { atomic_fetch_add(&alarms, 1); }

static void onQueued(int s, siginfo_t *info, void *context)
{
	if (info->si_code != SI_QUEUE)
		fail("a queued signal came with code %d", info->si_code);
	atomic_fetch_add(&queuedSum, info->si_value.sival_int);
	atomic_fetch_add(&queued, 1);
}

static void start(void *(*f)(void *), int blockSignals)
{
	sigset_t set, old;
	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	sigaddset(&set, SIGRTMIN);
	if (blockSignals)
		pthread_sigmask(SIG_BLOCK, &set, &old);
	pthread_t t;
	if (pthread_create(&t, NULL, f, NULL))
		fail("pthread_create");
	if (blockSignals)
		pthread_sigmask(SIG_SETMASK, &old, NULL);
}

int main(void)
{
	struct sigaction a = {.sa_handler = onAlarm, .sa_flags = SA_RESTART};
	sigaction(SIGALRM, &a, NULL);
	struct sigaction q = {.sa_sigaction = onQueued, .sa_flags = SA_RESTART | SA_SIGINFO};
	sigaction(SIGRTMIN, &q, NULL);
	if (pipe(ends) || sem_init(&sem, 0, 0))
		fail("pipe");
	for (int i = 0; i < 2; i++) {
		start(compute, 0);
		start(reads, 0);
		start(sleeps, 0);
		start(polls, 1);
		start(semaphores, 0);
	}
	struct itimerval every = {{0, 1000}, {0, 1000}};
	setitimer(ITIMER_REAL, &every, NULL);
	printf("ready\n");
	for (long n = 0;; n++) {
		struct timespec t = {0, 5000000};
		while (nanosleep(&t, &t) == -1)
			;
		if (write(ends[1], "xx", 2) != 2)
			fail("write");
		sem_post(&sem);
		if (n % 20 == 0) {
			printf("rounds=%ld waits=%ld alarms=%ld queued=%ld sum=%ld\n",
			       rounds, waits, alarms, queued, queuedSum);
			fflush(stdout);
		}
	}
}
