// This file lets the compiler accept the declarations in raw.go that have no
// body.
