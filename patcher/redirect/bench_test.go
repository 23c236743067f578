package redirect

import (
	"testing"
)

// BenchmarkCall measures a call of a function as it is, redirected with the
// switch off (stub and thunk) and redirected with the switch on (stub).
func BenchmarkCall(b *testing.B) {
	s := newSelf(b)
	call := func(b *testing.B) {
		for b.Loop() {
			oldLeaf(1, 2)
		}
	}
	b.Run("plain", call)
	in := s.redirect(b, oldLeaf, newLeaf)
	b.Run("inactive", call)
	in.set(b, true)
	b.Run("active", call)
}

// BenchmarkAnalyze measures a plan for every function of the go command.
func BenchmarkAnalyze(b *testing.B) {
	im := readImage(b, goCommand(b))
	size := 0
	for _, f := range im.funcs {
		size += len(f.code)
	}
	b.SetBytes(int64(size))
	for b.Loop() {
		for _, f := range im.funcs {
			_, _ = Analyze(f.code, f.addr)
		}
	}
}
