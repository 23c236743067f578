#include "shop.h"

static int named_state = 100;
static NOINLINE int named(int n) { return n + named_state; }

NOINLINE int named_b(int n)
{
	static int count;
	count++;
	return with_fee(named(n) * 3);
}

void named_b_set(int n) { named_state = n; }
