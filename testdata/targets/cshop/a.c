#include "shop.h"

static int named_state = 1;
static NOINLINE int named(int n) { return n + named_state; }

NOINLINE int named_a(int n)
{
	static int count; // one of two
	count++;
	return with_fee(named(n) * 2);
}

void named_a_set(int n) { named_state = n; }
