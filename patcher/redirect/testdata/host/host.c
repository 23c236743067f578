// A program that redirects its own functions as it is told on stdin, a line a
// command, all numbers hexadecimal:
//
//	b                  prints the address of main
//	m ADDR LEN         maps LEN bytes of r-x memory at ADDR
//	w ADDR BYTES       writes the bytes into its memory
//	c NAME             calls NAME through its caller and prints the result
//	r NAME N OLD NEW   lets N threads call NAME until s
//	n                  prints how many of those calls returned OLD, NEW, and
//	                   anything else
//	s                  ends the threads, then does as n
//
// old_NAME is what gets redirected, new_NAME is what it gets redirected to.
// Compiled with SWAP the bodies change places, which tells what a redirected
// program has to answer.
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

// The caller must neither see into the function nor know which registers it
// leaves alone.
#define SEALED __attribute__((noipa))

#ifdef SWAP
#define BOTH(ret, name, params, old_body, new_body) \
	SEALED ret old_##name params new_body           \
	SEALED ret new_##name params old_body
#else
#define BOTH(ret, name, params, old_body, new_body) \
	SEALED ret old_##name params old_body           \
	SEALED ret new_##name params new_body
#endif

volatile long global = 5;
__thread volatile long threads_own = 7;
volatile long sink;

SEALED long helper(long x) { return x * 3; }

BOTH(int, add, (int a, int b), { return a + b + 1000; }, { return a - b; })

BOTH(long, many, (long a, long b, long c, long d, long e, long f, long g, long h),
	{ return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h; },
	{ return a - b + c - d + e - f + g - h; })

BOTH(double, floats, (double a, float b, int c), { return a * b + c; }, { return a / b - c; })

BOTH(long double, extended, (long double a), { return a * a; }, { return a + 1; })

BOTH(long, variadic, (int n, ...),
	{ va_list v; va_start(v, n); double s = 0; for (int i = 0; i < n; i++) s += va_arg(v, double); va_end(v); return s; },
	{ va_list v; va_start(v, n); double s = 1; for (int i = 0; i < n; i++) s *= va_arg(v, double); va_end(v); return s; })

struct big { long v[6]; };
BOTH(struct big, by_value, (struct big b),
	{ for (int i = 0; i < 6; i++) b.v[i] += i; return b; },
	{ for (int i = 0; i < 6; i++) b.v[i] *= i; return b; })

long old_fibonacci(long n);
BOTH(long, fibonacci, (long n),
	{ return n < 2 ? n : old_fibonacci(n - 1) + old_fibonacci(n - 2); },
	{ return n < 2 ? 1 : old_fibonacci(n - 1) + old_fibonacci(n - 2) + 1; })

BOTH(long, use_global, (long n), { return global + n; }, { return global - n; })
BOTH(long, set_global, (long n), { global = n; return helper(global); }, { global = n + 1; return global; })
BOTH(long, thread_local, (void), { return threads_own + 1; }, { return threads_own * 2; })
BOTH(long, tail_call, (long n), { return helper(n + 1); }, { return helper(n + 2); })
BOTH(long, from_memory, (const long *p), { return p[0] + p[1]; }, { return p[0] - p[1]; })
BOTH(long, constant, (void), { return 123456789; }, { return 987654321; })
BOTH(long, early_return, (long n), { if (!n) return 11; sink = n; return helper(n); }, { return n ? 5 : 12; })
BOTH(size_t, length, (const char *s), { size_t n = 0; while (*s++) n++; return n; }, { return s[0]; })

BOTH(long, stack_array, (const char *s),
	{ char b[64]; strcpy(b, s); long n = 0; for (int i = 0; b[i]; i++) n = n * 31 + b[i]; return n; },
	{ char b[64]; strcpy(b, s); return b[1]; })

BOTH(long, jump_table, (int n, long x),
	{ switch (n) { case 0: return helper(x); case 1: return x + 9; case 2: return x << 3; case 3: return x ^ 77;
	  case 4: sink = x; return 4; case 5: return x * x; case 6: return helper(helper(x)); default: return -1; } },
	{ return n + x; })

BOTH(float, vector_sum, (const float *v, int n),
	{ float s[4] = {0}; for (int i = 0; i < n; i++) s[i % 4] += v[i]; return s[0] + s[1] + s[2] + s[3]; },
	{ float s = 1; for (int i = 0; i < n; i++) s *= v[i]; return s; })

static const long numbers[] = {40, 2};
static const float values[] = {1, 2, 3, 4, 5, 6, 7, 8};
static const struct big big = {{1, 2, 3, 4, 5, 6}};

SEALED long call_add(void) { return old_add(3, 4); }
SEALED long call_many(void) { return old_many(1, 2, 3, 4, 5, 6, 7, 9); }
SEALED long call_floats(void) { return 1000 * old_floats(3.5, 1.25f, 2); }
SEALED long call_extended(void) { return old_extended(12.5L); }
SEALED long call_variadic(void) { return old_variadic(4, 2.0, 3.0, 4.0, 5.0); }
SEALED long call_by_value(void) { struct big b = old_by_value(big); return b.v[0] + 10 * b.v[3] + 100 * b.v[5]; }
SEALED long call_fibonacci(void) { return old_fibonacci(12); }
SEALED long call_use_global(void) { return old_use_global(2); }
SEALED long call_set_global(void) { long n = old_set_global(3) + 100 * global; global = 5; return n; }
SEALED long call_thread_local(void) { return old_thread_local(); }
SEALED long call_tail_call(void) { return old_tail_call(5); }
SEALED long call_from_memory(void) { return old_from_memory(numbers); }
SEALED long call_constant(void) { return old_constant(); }
SEALED long call_early_return(void) { return old_early_return(0) + 1000 * old_early_return(2); }
SEALED long call_length(void) { return old_length("how long"); }
SEALED long call_stack_array(void) { return old_stack_array("stack"); }
SEALED long call_jump_table(void) { long s = 0; for (int i = -1; i < 9; i++) s = s * 5 + old_jump_table(i, 3); return s; }
SEALED long call_vector_sum(void) { return old_vector_sum(values, 8); }
SEALED long call_through_pointer(void) { int (*volatile f)(int, int) = old_add; return f(30, 4); }

#define CALL(name) {#name, call_##name}
static const struct { const char *name; long (*call)(void); } calls[] = {
	CALL(add), CALL(many), CALL(floats), CALL(extended), CALL(variadic), CALL(by_value), CALL(fibonacci),
	CALL(use_global), CALL(set_global), CALL(thread_local), CALL(tail_call), CALL(from_memory), CALL(constant),
	CALL(early_return), CALL(length), CALL(stack_array), CALL(jump_table), CALL(vector_sum), CALL(through_pointer),
};

static long (*find(const char *name))(void)
{
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
		if (!strcmp(calls[i].name, name))
			return calls[i].call;
	fprintf(stderr, "no function %s\n", name);
	exit(1);
}

static pthread_t threads[16];
static int running;
static atomic_int stop;
static long (*busy)(void);
static long expected[2];
static atomic_long outcomes[3];

static void *run(void *unused)
{
	while (!stop) {
		long got = busy();
		outcomes[got == expected[0] ? 0 : got == expected[1] ? 1 : 2]++;
	}
	return unused;
}

static void write_bytes(int mem, unsigned long addr, const char *hex)
{
	unsigned char b[4096];
	unsigned v;
	int n = 0;
	for (; sscanf(hex, "%2x", &v) == 1; hex += 2)
		b[n++] = v;
	if (pwrite(mem, b, n, addr) != n) {
		perror("write");
		exit(1);
	}
}

int main(void)
{
	static char line[10000], word[9000];
	unsigned long a, b, c;
	int mem = open("/proc/self/mem", O_RDWR);
	while (fgets(line, sizeof line, stdin)) {
		if (line[0] == 'b') {
			printf("%lx\n", (unsigned long)main);
		} else if (sscanf(line, "m %lx %lx", &a, &b) == 2) {
			void *p = mmap((void *)a, b, PROT_READ | PROT_EXEC,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
			printf("%lx\n", (unsigned long)p);
		} else if (sscanf(line, "w %lx %8192s", &a, word) == 2) {
			write_bytes(mem, a, word);
			printf("0\n");
		} else if (sscanf(line, "c %99s", word) == 1) {
			printf("%lx\n", (unsigned long)find(word)());
		} else if (sscanf(line, "r %99s %lx %lx %lx", word, &a, &b, &c) == 4) {
			busy = find(word);
			expected[0] = b;
			expected[1] = c;
			for (running = 0; running < (int)a; running++)
				pthread_create(&threads[running], NULL, run, NULL);
			printf("0\n");
		} else if (line[0] == 's' || line[0] == 'n') {
			stop = line[0] == 's';
			while (stop && running)
				pthread_join(threads[--running], NULL);
			printf("%lx %lx %lx\n", outcomes[0], outcomes[1], outcomes[2]);
		} else {
			printf("what?\n");
		}
		fflush(stdout);
	}
	return 0;
}
