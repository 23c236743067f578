// Threads with names that serve orders, to be looked at in a debugger: arguments,
// structures, arrays, strings, a global, and a call to step into.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))

struct item {
	const char *name;
	int price;
};

struct order {
	int desk;
	struct item items[3];
	struct order *next;
};

int rate = 10;
static long served;

NOINLINE int price(const struct item *item)
{
	int cost = item->price;
	return cost + rate; // in price
}

NOINLINE int total(struct order *order, int n)
{
	int sum = 0;
	const char *last = "nothing";
	for (int i = 0; i < n; i++) {
		sum += price(&order->items[i]); // in total
		last = order->items[i].name;
	}
	order->desk += last[0] == 0; // counted
	return sum;
}

NOINLINE int together(int desk)
{
	return desk + 1; // together
}

static pthread_barrier_t barrier;

static void *serve(void *arg)
{
	struct order order = {(int)(long)arg, {{"tea", 2}, {"cake", 5}, {"milk", 1}}, NULL};
	char name[16];
	snprintf(name, sizeof name, "desk%d", order.desk);
	pthread_setname_np(pthread_self(), name);
	for (;;) {
		if (total(&order, 3) < 0)
			abort();
		__atomic_fetch_add(&served, 1, __ATOMIC_RELAXED);
		pthread_barrier_wait(&barrier);
		together(order.desk);
		usleep(1000);
	}
	return NULL;
}

// A thread that ends at once.
static void *guest(void *arg)
{
	pthread_setname_np(pthread_self(), "guest");
	return arg; // guest
}

int main(int argc, char **argv)
{
	int desks = argc > 1 ? atoi(argv[1]) : 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	pthread_barrier_init(&barrier, NULL, desks);
	for (int i = 0; i < desks; i++) {
		pthread_t t;
		if (pthread_create(&t, NULL, serve, (void *)(long)(i + 1)))
			return 1;
	}
	printf("ready\n"); // in main
	for (int n = 0;; n++) {
		struct order order = {0, {{"bun", 4}}, NULL};
		pthread_t t;
		if (n % 10 == 0 && pthread_create(&t, NULL, guest, NULL) == 0)
			pthread_join(t, NULL);
		printf("%d total=%d served=%ld\n", n, total(&order, 1), served);
		usleep(20000);
	}
}
