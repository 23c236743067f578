// Brew does what tea does, in C: it writes a bill to a file, again and again, for
// tests to read. It knows nothing of Darn.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

struct order {
	int cups;
	int cents; // for each
};

static int tables; // that were served

static __attribute__((noinline, noclone)) int sum(const struct order *order)
{
	return order->cups * order->cents;
}

static __attribute__((noinline, noclone)) void bill(const struct order *order, char *text, int size)
{
	int cents = sum(order);
	tables++;
	snprintf(text, size, "%d cups of tea: %d.%d EUR", order->cups, cents / 100, cents % 100);
}

// Who reads the file never sees half a bill.
static void put(const char *path, const char *text)
{
	char next[4096];
	snprintf(next, sizeof next, "%s.new", path);
	FILE *f = fopen(next, "w");
	if (!f)
		return;
	fputs(text, f);
	fclose(f);
	rename(next, path);
}

static void *kettle(void *arg)
{
	pthread_setname_np(pthread_self(), "kettle");
	for (;;)
		usleep(20000);
	return arg;
}

int main(int argc, char **argv)
{
	struct order order = {3, 235};
	pthread_t t;
	if (argc < 2 || pthread_create(&t, NULL, kettle, NULL))
		return 1;
	for (;;) {
		char text[100];
		bill(&order, text, sizeof text);
		put(argv[1], text);
		usleep(20000);
	}
}
