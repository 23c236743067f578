// A program to be patched: threads call every kind of function all the time and
// print what they say.
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "shop.h"

int rate = 10;             // global
static int sold;           // static
__thread int visits = 100; // thread-local
struct item items[3] = {{"tea", 2}, {"cake", 5}, {"milk", 1}};
const char *(*greeter)(void);
volatile int keep = 1;

NOINLINE int price(int n) { return items[n % 3].price; }

static NOINLINE int discount(int sum) { return sum > 20 ? sum - 1 : sum; }

int hidden_factor = 3;
NOINLINE int hidden_times(int n) { return n * hidden_factor; }

NOINLINE int total(int n)
{
	int sum = 0;
	for (int i = 0; i < n; i++)
		sum += price(i);
	sold++;
	return discount(sum) + rate;
}

NOINLINE const char *greet(void) { return "hello"; }

NOINLINE int visit(void) { return ++visits; }

// Too short for a jump.
__attribute__((noinline, naked)) int tiny(void) { __asm__("ret"); }

// A loop whose head is in the first bytes.
__attribute__((noinline, naked)) long loops(long n)
{
	__asm__("xor %eax, %eax; 1: dec %rdi; jnz 1b; ret; nop; nop");
}

// Sleeps in the old code.
NOINLINE int slow(int ms)
{
	usleep(ms * 1000);
	return ms + keep;
}

static long answers, wrong;

static void *work(void *arg)
{
	(void)arg;
	while (keep) {
		int t = total(4), v = visit();
		if (t <= 0 || v <= 0 || !greeter()[0])
			__atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED);
		__atomic_fetch_add(&answers, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void *sleeper(void *arg)
{
	(void)arg;
	while (keep)
		slow(400);
	return NULL;
}

int main(int argc, char **argv)
{
	int threads = argc > 1 ? atoi(argv[1]) : 2;
	greeter = greet;
	if (argc > 9) { // the compiler must not know that they stay what they are
		rate = hidden_factor = argc;
		named_a_set(argc);
		named_b_set(argc);
		tiny();
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (int i = 0; i < threads; i++) {
		pthread_t t;
		if (pthread_create(&t, NULL, work, NULL))
			return 1;
	}
	pthread_t t;
	if (argc > 2 && pthread_create(&t, NULL, sleeper, NULL))
		return 1;
	printf("ready\n");
	for (int n = 0;; n++) {
		printf("%d total=%d greet=%s/%s hidden=%d named=%d/%d loops=%ld slow=%d answers=%ld wrong=%ld\n", n, total(4), greet(), greeter(),
		       hidden_times(n), named_a(1), named_b(1), loops(2), slow(0), answers, wrong);
		usleep(20000);
	}
}
