// C++ to be patched: methods, virtual functions, templates, exceptions.
#include <cstdio>
#include <stdexcept>
#include <string>
#include <thread>
#include <unistd.h>

#include "cart.h"

namespace shop {
NOINLINE Shape::~Shape() {}
NOINLINE int Shape::area() const { return 1; }
NOINLINE int Square::area() const { return side * side; }
NOINLINE int Cart::total(int n) const { return n * rate; }
NOINLINE int check(int n)
{
	if (n > 100)
		throw Refused("old");
	return n;
}
// Exceptions of check pass it.
NOINLINE int passes(int (*f)(int), int n)
{
	std::string held("held");
	return f(n) + (int)held.size();
}
template <typename T> NOINLINE T twice(T x) { return x < 1000 ? x + x : x - 1; }
template int twice<int>(int);
} // namespace shop

int main()
{
	setvbuf(stdout, nullptr, _IOLBF, 0);
	shop::Cart cart;
	cart.rate = 3;
	shop::Square square;
	square.side = 4;
	shop::Shape *shape = &square;
	std::thread other([] {
		for (;;) {
			try {
				shop::passes(shop::check, 101);
			} catch (const shop::Refused &) {
			}
		}
	});
	for (int n = 0;; n++) {
		const char *caught = "none";
		std::string what;
		try {
			shop::passes(shop::check, 200);
		} catch (const shop::Refused &e) {
			what = e.what();
			caught = what.c_str();
		}
		printf("%d total=%d area=%d twice=%d caught=%s\n", n, cart.total(2), shape->area(), shop::twice(21), caught);
		usleep(20000);
	}
}
