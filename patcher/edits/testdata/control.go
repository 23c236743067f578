package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"math"
	"math/big"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"
)

type verb int

const (
	start verb = iota + 1
	halt
	_
	repeat
)

func (v verb) String() string { return [...]string{"?", "start", "halt", "", "repeat"}[v] }

type tree[K any] struct {
	left, right *tree[K]
	key         K
}

func (t *tree[K]) all() iter.Seq[K] {
	return func(yield func(K) bool) { t.walk(yield) }
}

func (t *tree[K]) walk(yield func(K) bool) bool {
	return t == nil || t.left.walk(yield) && yield(t.key) && t.right.walk(yield)
}

func (t *tree[K]) insert(k K, less func(a, b K) bool) *tree[K] {
	if t == nil {
		return &tree[K]{key: k}
	}
	if less(k, t.key) {
		t.left = t.left.insert(k, less)
	} else {
		t.right = t.right.insert(k, less)
	}
	return t
}

type fault struct {
	op  string
	err error
}

func (f *fault) Error() string   { return f.op + ": " + f.err.Error() }
func (f *fault) Unwrap() error   { return f.err }
func (f *fault) Is(e error) bool { return e == errors.ErrUnsupported }

type base interface{ hello() string }
type polite struct{ base }
type rude struct{ n *int }

func (r rude) hello() string { return fmt.Sprint("go away ", *r.n) }

// panics runs f and returns what it panics with.
func panics(f func()) (text string) {
	defer func() {
		switch r := recover().(type) {
		case runtime.Error:
			text = r.Error()
		case error:
			text = "error " + r.Error()
		default:
			text = fmt.Sprint(r)
		}
	}()
	f()
	return "no panic"
}

func checkPanics() error {
	var p *fault
	var m map[string]int
	var b base
	var e any = verb(1)
	s, n, c := []int{1}, 3, make(chan int)
	close(c)
	for want, f := range map[string]func(){
		"runtime error: invalid memory address or nil pointer dereference":       func() { p.op = "x" },
		"runtime error: index out of range [3] with length 1":                    func() { s[n] = 1 },
		"runtime error: slice bounds out of range [3:1:]":                        func() { _ = s[n:1:1][0] },
		"assignment to entry in nil map":                                         func() { m["a"] = 1 },
		"interface conversion: interface {} is main.verb, not main.fault":        func() { _ = e.(fault) },
		"interface conversion: main.verb is not main.base: missing method hello": func() { b = e.(base) },
		"close of closed channel":                                                func() { close(c) },
		"send on closed channel":                                                 func() { c <- 1 },
		"error x: file does not exist":                                           func() { panic(&fault{"x", os.ErrNotExist}) },
		"runtime error: integer divide by zero":                                  func() { n /= len(m) },
		"runtime error: makeslice: len out of range":                             func() { _ = make([]int, -n) },
		"again": func() {
			defer func() { recover(); panic("again") }()
			panic("first")
		},
	} {
		if n == 1 {
			_ = b
		}
		if got := panics(f); got != want && !strings.Contains(got, want) {
			return fmt.Errorf("got %q, want %q", got, want)
		}
	}
	done := make(chan string, 1)
	go func() {
		defer func() { done <- "gone" }()
		runtime.Goexit()
	}()
	<-done
	return nil
}

func checkControl() error {
	var t *tree[string]
	for _, w := range strings.Fields("the quick brown fox jumps over the lazy dog") {
		t = t.insert(w, func(a, b string) bool { return a < b })
	}
	var words []string
outer:
	for w := range t.all() {
		for i := range 3 {
			if w == "over" {
				break outer
			}
			if i == 1 {
				continue outer
			}
			defer func() { words = nil }()
			words = append(words, w)
		}
	}
	if got := strings.Join(words, " "); got != "brown dog fox jumps lazy" {
		return fmt.Errorf("walked %s", got)
	}
	next, stop := iter.Pull(t.all())
	defer stop()
	next()
	if w, _ := next(); w != "dog" {
		return fmt.Errorf("pulled %s", w)
	}
	n := 5
	var b base = polite{polite{rude{&n}}}
	hello, expr := b.hello, base.hello
	n++
	if hello()+expr(b)+(*polite).hello(&polite{b}) != "go away 6go away 6go away 6" {
		return errors.New(hello())
	}
	err := fmt.Errorf("more: %w", errors.Join(io.EOF, &fault{"read", os.ErrClosed}))
	var f *fault
	if !errors.As(err, &f) || f.op != "read" || !errors.Is(err, os.ErrClosed) || !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	for i, want := range []string{"verb start", "base", "text", "error", "func", "none", "ints"} {
		for range 20 {
			got := ""
			switch x := []any{start, b, &strings.Builder{}, f, panics, nil, []int{1}}[i].(type) {
			case verb:
				got = fmt.Sprint("verb ", x)
			case base:
				got = "base"
			case error:
				got = "error"
			case fmt.Stringer:
				got = "text"
			case func(func()) string:
				got = "func"
			case nil:
				got = "none"
			case []int:
				got = "ints"
			}
			if got != want {
				return fmt.Errorf("got %s, want %s", got, want)
			}
		}
	}
	ctx, cancel := context.WithTimeoutCause(context.WithValue(context.Background(), start, repeat), time.Microsecond, f)
	defer cancel()
	<-ctx.Done()
	if ctx.Value(start) != repeat || ctx.Value(1) != nil || context.Cause(ctx) != f {
		return fmt.Errorf("context: %v", context.Cause(ctx))
	}
	labels := ""
	pprof.Do(ctx, pprof.Labels("new", "code"), func(ctx context.Context) {
		labels, _ = pprof.Label(ctx, "new")
	})
	var wg sync.WaitGroup
	results := make([]complex128, 8)
	for i := range results {
		wg.Add(1)
		time.AfterFunc(time.Microsecond, func() {
			defer wg.Done()
			results[i] = complex(math.Sqrt(float64(i)), math.FMA(2, float64(i), 1))
		})
	}
	wg.Wait()
	if labels != "code" || results[4] != 2+9i || min(3, n, 7) != 3 {
		return fmt.Errorf("results %v %s", results, labels)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})).With("verb", halt).Info("logged", "fault", f)
	if log.String() != "level=INFO msg=logged verb=halt fault=\"read: file already closed\"\n" {
		return errors.New(log.String())
	}
	x := new(big.Int).Exp(big.NewInt(3), big.NewInt(200), nil)
	if x.Mod(x, big.NewInt(1000007)).String() != new(big.Int).Exp(big.NewInt(3), big.NewInt(200), big.NewInt(1000007)).String() {
		return errors.New(x.String())
	}
	type row struct {
		name string
		n    int
	}
	rows := []row{{"b", 2}, {"a", 2}, {"c", 1}}
	slices.SortStableFunc(rows, func(a, b row) int { return a.n - b.n })
	sort.Slice(rows, func(i, j int) bool { return rows[i].name < rows[j].name })
	if rows[0] != (row{"a", 2}) || slices.IndexFunc(rows, func(r row) bool { return r.n == 1 }) != 2 {
		return fmt.Errorf("rows %v", rows)
	}
	goto end
end:
	return checkPanics()
}

//go:noinline
func freshCode() string {
	if err := checkControl(); err != nil {
		return err.Error()
	}
	return "control"
}
