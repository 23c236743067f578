#define NOINLINE __attribute__((noinline, noclone))

#include <stdexcept>

namespace shop {
struct Refused : std::runtime_error {
	using std::runtime_error::runtime_error;
};
struct Shape {
	virtual ~Shape();
	virtual int area() const;
};
struct Square : Shape {
	int side;
	int area() const override;
};
struct Cart {
	int rate;
	int total(int n) const;
};
int check(int n);
int passes(int (*f)(int), int n);
template <typename T> T twice(T x);
} // namespace shop
