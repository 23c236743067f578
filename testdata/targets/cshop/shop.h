#define NOINLINE __attribute__((noinline, noclone))

struct item {
	const char *name;
	int price;
};

#define FEE 0
// Is put into its callers.
static inline int with_fee(int n) { return n + FEE; }

#pragma GCC visibility push(hidden)
extern int hidden_factor;
int hidden_times(int n);
int named_a(int n);
int named_b(int n);
void named_a_set(int n);
void named_b_set(int n);
#pragma GCC visibility pop
