package edits_test

import (
	"slices"
	"strings"

	"github.com/darn-dev/darn/patcher/finding"
)

// edits is what a developer may do to the program, one thing at a time.
var edits = slices.Concat(functionEdits, closureEdits, genericEdits, typeEdits, goroutineEdits, packageEdits, newCode)

var functionEdits = []edit{
	{
		name:    "plain function",
		changes: map[string][]string{"functions.go": {"return n * price", "return n*price - 30"}},
		answers: []answer{{"total", "300", "270"}},
	},
	{
		name:    "variadic function",
		mixes:   true,
		changes: map[string][]string{"functions.go": {`strings.Join(parts, sep)`, `strings.Join(append([]string{"first"}, parts...), sep)`}},
		answers: []answer{{"variadic", "0:1:a3:a-b-c", "0:first1:first,a3:first-a-b-c"}},
	},
	{
		name:    "deferred function that recovers",
		changes: map[string][]string{"functions.go": {`s = fmt.Sprint("recovered ", r)`, "err, ok := r.(interface{ RuntimeError() })\n\t\t\ts = fmt.Sprint(\"saved from \", ok, err)"}},
		answers: []answer{{"guarded", "recovered runtime error: integer divide by zero", "saved from trueruntime error: integer divide by zero"}},
	},
	{
		name:    "new panic that old code recovers",
		changes: map[string][]string{"functions.go": {`return fmt.Sprint(10 / n)`, "if n == 0 {\n\t\tpanic(fmt.Errorf(\"no %d\", n))\n\t}\n\treturn fmt.Sprint(10 / n)"}},
		answers: []answer{{"guarded", "recovered runtime error: integer divide by zero", "recovered no 0"}},
	},
	{
		name:  "defer in a loop and a deferred plain function",
		mixes: true,
		changes: map[string][]string{"functions.go": {
			"for i := range 3 {\n\t\tdefer func() { s += fmt.Sprint(i) }()", "for i := range 12 {\n\t\tdefer func() { s += fmt.Sprint(i, \".\") }()",
			"*s += word", `*s += "so " + word`,
		}},
		answers: []answer{{"unwound", "done 210", "so done 11.10.9.8.7.6.5.4.3.2.1.0."}},
	},
	{
		name:    "switch on strings",
		mixes:   true,
		changes: map[string][]string{"functions.go": {`case "sun":`, `case "sun", "day", "month", "year", "century":`}},
		answers: []answer{{"kind", "1 4 0", "1 4 4"}},
	},
	{
		name:    "switch with a jump table",
		mixes:   true,
		changes: map[string][]string{"functions.go": {"\tcase 8:\n\t\treturn \"xor \"", "\tcase 8:\n\t\treturn \"xor \"\n\tcase 9, 10, 11:\n\t\treturn \"shift \"\n\tcase 99:\n\t\treturn \"halt \"", `return "or "`, `return "OR "`}},
		answers: []answer{{"operation", "sub or what ", "sub OR halt "}},
	},
	{
		name:    "recursion",
		mixes:   true,
		changes: map[string][]string{"functions.go": {"return fib(n-1) + fib(n-2)", "return fib(n-1) + fib(n-2) + 1"}},
		answers: []answer{{"fib", "144", "376"}},
	},
	{
		name:    "old frames of a recursion call new ones",
		changes: map[string][]string{"functions.go": {`return "end"`, `return "new end"`}},
		story: func(r *run) {
			c := r.later("walk")
			r.expect("held", "held")
			r.on()
			r.expect("release", "released")
			if got := <-c; got != "4 3 2 1 new end" {
				r.t.Errorf("it answers %s", got)
			}
			r.off()
		},
	},
	{
		name: "changed signature",
		changes: map[string][]string{"functions.go": {
			"func price(n int) int { return n * 25 }", "func price(n int, currency string) string { return fmt.Sprint(n*26, currency) }",
			"fmt.Sprint(price(4))", `fmt.Sprint(price(4, " EUR"))`, `fmt.Sprint("held ", price(1))`, `fmt.Sprint("held ", price(1, " USD"))`,
		}},
		answers: []answer{{"price", "100", "104 EUR"}},
		story: func(r *run) {
			// A call under way goes on with the old one.
			c := r.later("hold")
			r.expect("held", "held")
			r.on()
			r.expect("release", "released")
			if got := <-c; got != "held 25" {
				r.t.Errorf("the call under way answers %s", got)
			}
			c = r.later("hold")
			r.expect("held", "held")
			r.off()
			r.expect("release", "released")
			if got := <-c; got != "held 26 USD" {
				r.t.Errorf("the call that began in new code answers %s", got)
			}
		},
	},
	{
		name:    "multiple results and errors",
		changes: map[string][]string{"functions.go": {"if n > 10 {", "if n > 5 {"}},
		answers: []answer{{"results", "fine[6 6 6] <nil>", "[0 0 0] 6 is too many"}},
	},
	{
		name:    "constant",
		mixes:   true,
		changes: map[string][]string{"functions.go": {"const firstDay = 1", "const firstDay = 2"}},
		answers: []answer{{"weekday", "monsat", "tuesun"}},
	},
	{
		name:    "conversions of strings and bytes",
		changes: map[string][]string{"functions.go": {`return strings.ToUpper(s[:4]) + string(b[4:])`, "seen := map[string]int{s: 1}\n\tfor _, r := range s {\n\t\tb = append(b, byte(r)-32)\n\t}\n\treturn fmt.Sprint(seen[string(b[:10])], string([]rune(string(b))[9:12]), string(b) == s)"}},
		answers: []answer{{"text", "SOME bytes", "1sSOfalse"}},
	},
	{
		name: "new function, constant and variable",
		changes: map[string][]string{"functions.go": {
			"return n * price", "rebates[0]++\n\treturn reduced(n*price) + rebates[0] - rebates[0]",
			"// fresh is where", "const least = 7\n\nvar (\n\trebates [3]int\n\tgreat   = \"great\"\n\tinside  = &great\n)\n\n//go:noinline\nfunc reduced(n int) int { return n - least - len(*inside) }\n\n// fresh is where",
		}},
		answers: []answer{{"total", "300", "288"}},
	},
	{
		name:    "large frame",
		mixes:   true,
		changes: map[string][]string{"functions.go": {"return n * price", "var pad [100_000]*int\n\tfor i := range pad {\n\t\tpad[i] = &n\n\t}\n\treturn *pad[len(pad)-n] * price * deeper(50, &pad[0])", "// fresh is where", "//go:noinline\nfunc deeper(depth int, p **int) int {\n\tvar pad [500]int\n\tif pad[depth] = **p; depth == 0 {\n\t\treturn pad[0]\n\t}\n\treturn deeper(depth-1, p)\n}\n\n// fresh is where"}},
		answers: []answer{{"total", "300", "900"}},
	},
	{
		name:    "renamed function",
		changes: map[string][]string{"functions.go": {"total(3, 100)", "product(3, 101)", "func total(", "func product("}},
		answers: []answer{{"total", "300", "303"}},
	},
}

var closureEdits = []edit{
	{
		name:    "closure that lives from the start",
		changes: map[string][]string{"closures.go": {`return prefix + " " + name`, `return prefix + ", " + name + fmt.Sprint(hits > 0)`, `return name[:1]`, `return name[:2]`}},
		answers: []answer{{"letter", "dear eve", "dear, evetrue"}, {"short", "e", "ev"}},
	},
	{
		name:    "method of values and expressions that were bound before",
		mixes:   true,
		changes: map[string][]string{"closures.go": {`return g.word + " " + name`, `return fmt.Sprint(g.word, " dear ", name, g.n > 0)`}},
		answers: []answer{{"bound", "hello eve", "hello dear evetrue"}, {"expression", "hello bob", "hello dear bobtrue"}, {"title", "a sum label of sum good day eve", "a sum label of sum good day dear evetrue"}},
	},
	{
		name:    "closure given to a package",
		changes: map[string][]string{"closures.go": {`return list[i] < list[j]`, `return list[i] > list[j]`}},
		answers: []answer{{"sorted", "[1 2 3]", "[3 2 1]"}},
	},
	{
		name:    "callbacks of timers and contexts",
		mixes:   true,
		changes: map[string][]string{"closures.go": {`"after a while"`, `"in no time"`, `fmt.Sprint("because ", ctx.Err())`, `fmt.Sprint("since ", context.Cause(ctx))`, "ctx, cancel := context.WithCancel(context.Background())\n\tdefer cancel()", "ctx, why := context.WithCancelCause(context.Background())\n\tcancel := func() { why(fmt.Errorf(\"new\")) }"}},
		answers: []answer{{"later", "after a while", "in no time"}, {"cancelled", "because context canceled", "since new"}},
	},
	{
		name:    "live closure that captured the same is switched with its code",
		changes: map[string][]string{"closures.go": {`return "old " + s`, `return "new " + s`}},
		story: func(r *run) {
			r.expect("keep", "kept")
			r.expect("kept", "old a")
			r.on()
			r.expect("kept", "new a")
			r.expect("keep", "kept")
			r.expect("kept", "new a")
			r.off()
			r.expect("kept", "old a")
			r.expect("forget", "forgotten")
		},
	},
	{
		name:    "closure of new code outlives it",
		changes: map[string][]string{"closures.go": {`kept = func() string { return "old " + s }`, "n := len(s)\n\tkept = func() string { return fmt.Sprint(\"new \", n, s) }"}},
		story: func(r *run) {
			r.expect("keep", "kept")
			r.on()
			r.expect("kept", "old a") // holds what the old code captured
			r.expect("keep", "kept")
			r.expect("kept", "new 1a")
			r.off()
			r.tell("gc")
			r.expect("kept", "new 1a")
			if _, err := r.e.Unload(r.t.Context(), r.patch.ID); finding.CodeOf(err) != finding.InUse {
				r.t.Errorf("unload says %v", err)
			}
			r.expect("keep", "kept")
			r.expect("kept", "old a")
			r.expect("forget", "forgotten")
		},
	},
}

var genericEdits = []edit{
	{
		name:    "generic function",
		mixes:   true,
		changes: map[string][]string{"generics.go": {"s += x\n", "s += x + x\n"}},
		answers: []answer{{"sum", "6 3.5 5", "12 7 10"}},
	},
	{
		name:    "method of a generic type",
		changes: map[string][]string{"generics.go": {"return s.list[len(s.list)-1], true", "return s.list[0], len(s.list) < 2"}},
		answers: []answer{{"stack", "btrue false", "afalse false"}},
	},
	{
		name:    "generic method behind an interface",
		mixes:   true,
		changes: map[string][]string{"generics.go": {`return fmt.Sprintf("%d of %T", len(s.list), *new(T))`, `return fmt.Sprintf("%T times %d", *new(T), len(s.list))`}},
		answers: []answer{{"described", "2 of main.point 0 of int", "main.point times 2 int times 0"}},
	},
	{
		name:    "generic function with two type arguments",
		changes: map[string][]string{"generics.go": {"if v > most {", "if v > most && len(fmt.Sprint(k)) < 9 && fmt.Sprint(v) != \"3\" {"}},
		answers: []answer{{"largest", "b", "c"}},
	},
	{
		name:    "generic function that knows more of its type argument",
		mixes:   true,
		changes: map[string][]string{"generics.go": {"s += x\n", "if fmt.Sprintf(\"%T\", x) != \"int\" {\n\t\t\ts += x\n\t\t}\n\t\ts += x\n"}},
		answers: []answer{{"sum", "6 3.5 5", "6 7 10"}},
	},
	{
		name: "generic function and type of new arguments",
		changes: map[string][]string{"generics.go": {
			"return fmt.Sprint(apply([]int{1, 2}, func(n int) string { return fmt.Sprint(n * n) }))",
			"s := stack[map[string]big]{}\n\t\ts.push(map[string]big{\"a\": {1, \"x\", nil}})\n\t\tm, _ := s.top()\n\t\treturn fmt.Sprint(apply([]big{{2, \"y\", nil}}, func(b big) *big { return &b })[0].n, m, s, sum(kilo(1), 2))",
			"type meters float64", "type meters float64\n\ntype kilo int\n\nfunc (k kilo) String() string { return fmt.Sprintf(\"%dk\", int(k)) }\n\ntype big struct {\n\tn int\n\ts string\n\tp *big\n}",
		}},
		answers: []answer{{"applied", "[1 4]", "2 map[a:{1 x <nil>}] 1 of map[string]main.big 3k"}},
	},
	{
		name:    "iterator",
		mixes:   true,
		changes: map[string][]string{"generics.go": {"for i := range n {\n\t\t\tif !yield(i,", "for i := range n {\n\t\t\tif !yield(i+1,"}},
		answers: []answer{{"stars", ";*;**;", ";*;"}, {"pulled", "1*true", "2*true"}},
	},
	{
		name:    "body of a loop over an iterator",
		mixes:   true,
		changes: map[string][]string{"generics.go": {"if i == 3 {\n\t\t\tbreak\n\t\t}\n", "defer func() { s += \"!\" }()\n\t\tif i == 4 {\n\t\t\treturn s + \"out\"\n\t\t}\n"}},
		answers: []answer{{"stars", ";*;**;", ";*;**;***;out!!!!!"}},
	},
}

var typeEdits = []edit{
	{
		name:    "method of a value, also through its pointer",
		mixes:   true,
		changes: map[string][]string{"types.go": {`return strconv.Itoa(p.x) + "," + strconv.Itoa(p.y)`, `return fmt.Sprintf("(%s;%d)", strconv.Itoa(p.x), p.y)`, `return point{p.x * k, p.y * k}`, `return point{p.x * k, p.y * k * k}`}},
		answers: []answer{{"point", "1,2 3,4 2,4", "(1;2) (3;4) (2;8)"}},
	},
	{
		name:    "methods that are promoted by embedding",
		mixes:   true,
		changes: map[string][]string{"types.go": {`return "a " + p.word`, `return "the " + p.word`, `return "label of " + p.word`, `p.word += ""; return "mark of " + p.word`}},
		answers: []answer{{"title", "a sum label of sum good day eve", "the sum mark of sum good day eve"}},
	},
	{
		name: "value of a new type outlives the code that made it",
		changes: map[string][]string{"types.go": {
			"current = &circle{1}", "current = hexagon{n: 6, names: map[string]*string{}}",
			"//go:noinline\nfunc become", "type hexagon struct {\n\tn     int\n\tnames map[string]*string\n}\n\nfunc (h hexagon) name() string { return fmt.Sprint(\"hexagon \", h.n, len(h.names)) }\nfunc (h hexagon) area() float64 { return 0 }\n\n//go:noinline\nfunc become",
		}},
		story: func(r *run) {
			r.expect("become", "became")
			r.steadily("shape", "circle", "square")
			r.on()
			r.expect("shape", "circle")
			r.expect("become", "became")
			r.steadily("shape", "hexagon 6 0", "circle")
			r.off()
			r.tell("gc")
			r.steadily("shape", "hexagon 6 0", "hexagon 6 0")
			if _, err := r.e.Unload(r.t.Context(), r.patch.ID); finding.CodeOf(err) != finding.InUse {
				r.t.Errorf("unload says %v", err)
			}
			r.expect("reset", "reset")
			r.expect("shape", "square")
		},
	},
	{
		name:  "type switch",
		mixes: true,
		changes: map[string][]string{"types.go": {
			"\tcase fmt.Stringer:\n\t\treturn \"text \" + x.String()\n\tcase shape:", "\tcase point:\n\t\treturn fmt.Sprint(\"point \", x.x)\n\tcase interface{ Temporary() bool }:\n\t\treturn \"never\"\n\tcase interface{ area() float64 }:",
			`return "shape " + x.name()`, `return fmt.Sprint("area ", x.area())`, `return "something"`, `return fmt.Sprintf("a %T", x)`,
		}},
		answers: []answer{{"describe", "text 1,2|shape square|error denied|number 7|something", "point 1|area 1|error denied|number 7|a string"}},
	},
	{
		name:  "errors.As and Is with old and new types",
		mixes: true,
		changes: map[string][]string{"types.go": {
			`return "unknown"`, "if t := (*timeout)(nil); errors.As(err, &t) && errors.Is(err, io.EOF) {\n\t\treturn fmt.Sprint(\"timeout \", t.after)\n\t}\n\treturn \"unknown\"",
			`return fmt.Errorf("finding %s: %w", key, io.EOF)`, `return fmt.Errorf("finding %s: %w", key, errors.Join(&timeout{3}, io.EOF))`,
			`return "missing " + missing.key`, `return "missed " + missing.key`,
			"//go:noinline\nfunc classify", "type timeout struct{ after int }\n\nfunc (t *timeout) Error() string { return \"too late\" }\n\n//go:noinline\nfunc classify",
		}},
		answers: []answer{{"classify", "missing a|code 3|unknown", "missed a|code 3|timeout 3"}},
	},
	{
		name:    "method that the linker had dropped",
		changes: map[string][]string{"types.go": {`return "something"`, "var p any = point{1, 2}\n\treturn p.(interface{ Unused() string }).Unused() + fmt.Sprint(x.(string))"}},
		answers: []answer{{"describe", "text 1,2|shape square|error denied|number 7|something", "text 1,2|shape square|error denied|number 7|nothing called it beforex"}},
	},
	{
		name:    "local types of one name",
		changes: map[string][]string{"types.go": {"//go:noinline\nfunc first() string {\n", "//go:noinline\nfunc zeroth() string {\n\ttype pair struct{ a, b float64 }\n\treturn fmt.Sprintf(\"%v\", pair{0.5, 1})\n}\n\n//go:noinline\nfunc first() string {\n", "return first() +", "return zeroth() + first() +"}},
		answers: []answer{{"locals", "{1 2}{a:x b:y}", "{0.5 1}{1 2}{a:x b:y}"}},
	},
	{
		name:    "field of a local type renamed",
		changes: map[string][]string{"types.go": {"type pair struct{ a, b string }", "type pair struct{ name, b string }"}},
		answers: []answer{{"locals", "{1 2}{a:x b:y}", "{1 2}{name:x b:y}"}},
	},
	{
		name:    "changed signature of a method that no interface has",
		changes: map[string][]string{"types.go": {"func (p point) scaled(k int) point {", "func (p point) scaled(k, l int) point {", "p.y * k}", "p.y * l}", "scaled(2)", "scaled(2, 5)"}},
		answers: []answer{{"point", "1,2 3,4 2,4", "1,2 3,4 2,10"}},
	},
	{
		name:    "new method of an old type, called directly",
		changes: map[string][]string{"types.go": {"point{1, 2}.scaled(2))", "point{1, 2}.scaled(2).moved())", "type shape interface", "//go:noinline\nfunc (p point) moved() point { return point{p.x + 1, p.y + 1} }\n\ntype shape interface"}},
		answers: []answer{{"point", "1,2 3,4 2,4", "1,2 3,4 3,5"}},
	},
	{
		name:    "new method of an old type that an interface asks for",
		changes: map[string][]string{"types.go": {"type denied struct{ code int }", "type denied struct{ code int }\n\nfunc (d denied) String() string { return \"denied\" }", `return "unknown"`, "return fmt.Sprint(denied{4})"}},
		refused: finding.MethodSetChanged, refusal: "String",
	},
}

var goroutineEdits = []edit{
	{
		name:    "what a goroutine calls that never returns",
		changes: map[string][]string{"goroutines.go": {`return fmt.Sprint("job ", n)`, "done := make(chan string)\n\tgo func() { done <- fmt.Sprint(\"task \", n) }()\n\treturn <-done"}},
		answers: []answer{{"job", "job 5", "task 5"}},
	},
	{
		name:    "body of a goroutine",
		mixes:   true,
		changes: map[string][]string{"goroutines.go": {"go func() { c <- i * i }()", "go func() { c <- i*i + 1 }()"}},
		answers: []answer{{"gather", "14", "18"}},
	},
	{
		name: "select and channels",
		changes: map[string][]string{"goroutines.go": {
			"\tselect {\n\tcase s := <-b:\n\t\treturn s\n\tdefault:\n\t\treturn \"nothing\"\n\t}", "\ttype reply struct {\n\t\ts  string\n\t\tto chan<- reply\n\t}\n\treplies := make(chan reply)\n\tgo func() { replies <- reply{s: <-b} }()\n\tselect {\n\tcase r := <-replies:\n\t\treturn \"replied \" + r.s\n\tcase <-never:\n\t\treturn \"never\"\n\tcase <-time.After(time.Minute):\n\t\treturn \"late\"\n\t}",
		}},
		answers: []answer{{"choose", "a1", "replied a1"}},
	},
	{
		name:    "panics in goroutines, locks and atomics",
		mixes:   true,
		changes: map[string][]string{"goroutines.go": {"if i == 1 {\n\t\t\t\tpanic(\"one fails\")\n\t\t\t}", "if i >= 1 {\n\t\t\t\tvar p *job\n\t\t\t\tp.n++\n\t\t\t}"}},
		answers: []answer{{"guardedWork", "1 failed", "2 failed"}},
	},
	{
		name:    "goroutine that goes on in new code",
		changes: map[string][]string{"goroutines.go": {"spawned.Add(1)\n", "spawned.Add(10)\n", "spawned.Add(-1)\n", "spawned.Add(-10)\n"}},
		story: func(r *run) {
			r.expect("spawn", "spawned")
			r.expect("spawned", "1")
			r.on()
			r.expect("spawn", "spawned")
			r.expect("spawned", "11")
			r.off()
			r.expect("spawn", "spawned")
			r.expect("spawned", "12")
			_, err := r.e.Unload(r.t.Context(), r.patch.ID)
			if finding.CodeOf(err) != finding.InUse || !strings.Contains(err.Error(), "main.spawn") || !strings.Contains(err.Error(), "goroutine") {
				r.t.Errorf("unload says %v", err)
			}
			for range 3 {
				r.expect("stop", "stopped")
			}
			r.expect("spawned", "0")
		},
	},
}

var packageEdits = []edit{
	{
		name:    "function that was inlined into callers in several packages",
		mixes:   true,
		changes: map[string][]string{"store/store.go": {"return n * 10", "return n*10 + 5"}},
		answers: []answer{{"rate", "20 charge 21 small 10", "25 charge 26 small 15"}},
	},
	{
		name: "new variables whose values are computed",
		changes: map[string][]string{
			"store/store.go": {
				"// Name spells", "// more is filled by a function of its own.\nvar more = map[int]string{9: \"nine\", 10: \"ten\", 11: \"11\", 12: \"12\", 13: \"13\", 14: \"14\", 15: \"15\", 16: \"16\", 17: \"17\", 18: \"18\", 19: \"19\", 20: \"20\", 21: \"21\", 22: \"22\", 23: \"23\", 24: \"24\", 25: \"25\", 26: \"26\"}\n\nvar first = fmt.Sprint(\"first \", len(names), count())\n\n//go:noinline\nfunc count() int { return len(more) }\n\n// Name spells",
				`return "many"`, `return more[n] + first`,
			},
			"functions.go": {
				"return n * price", "return n*price + once() + len(lower)",
				"// fresh is where", "var (\n\tlower = strings.ToLower(\"SOME\")\n\tonce  = func() func() int {\n\t\tn := len(lower)\n\t\treturn func() int { return n * 10 }\n\t}()\n)\n\n// fresh is where",
			},
		},
		answers: []answer{{"name", "onemany", "oneninefirst 2 18"}, {"total", "300", "344"}},
		stays:   true, // the closure is on the heap
	},
	{
		name:    "function without room for a jump, called from another package",
		changes: map[string][]string{"store/store.go": {"func Limit() int { return 0 }", "func Limit() int { return 5 }"}},
		answers: []answer{{"limit", "0 0 0", "5 0 0"}},
	},
	{
		name:    "method without room for a jump that interfaces call",
		changes: map[string][]string{"store/store.go": {"func (s *Stock) Limit() int { return 0 }", "func (s *Stock) Limit() int { return 5 }"}},
		refused: finding.EntryTooShort, refusal: "edits/store.(*Stock).Limit: ",
	},
	{
		name:    "function without room for a jump that a variable keeps",
		changes: map[string][]string{"store/store.go": {"func None() int { return 0 }", "func None() int { return 5 }"}},
		refused: finding.EntryTooShort, refusal: "edits/store.None: ",
	},
	{
		name:  "functions of several packages at once",
		mixes: true,
		changes: map[string][]string{
			"store/store.go": {`return i.Name + ": none"`, `return i.Name + ": sold out"`},
			"dep/dep.go":     {"strings.ToLower(f)", "strings.ToUpper(f)"},
			"packages.go":    {`fmt.Sprint("small "`, `fmt.Sprint("tiny "`},
		},
		answers: []answer{{"stock", "pen: 7 cap: none", "pen: 7 cap: sold out"}, {"normal", "some words", "SOME WORDS"}, {"rate", "20 charge 21 small 10", "20 charge 21 tiny 10"}},
	},
	{
		name:    "function of the standard library",
		changes: map[string][]string{"std/encoding/hex/hex.go": {"\tEncode(dst, src)\n\treturn string(dst)", "\tEncode(dst, src)\n\treturn \"0x\" + string(dst)"}},
		answers: []answer{{"hex", "01ff", "0x01ff"}},
	},
}
