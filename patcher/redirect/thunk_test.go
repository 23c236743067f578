package redirect

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher/finding"
)

// checkThunk returns what is wrong with the thunk of p at address at: it has
// to hold the covered instructions, with the same operands and targets, up to
// one that never goes on, or else a jmp to what stands behind them.
func checkThunk(p *Plan, thunk []byte, at uint64) error {
	if len(thunk) > ThunkSize {
		return fmt.Errorf("%d bytes are more than ThunkSize", len(thunk))
	}
	old := p.Entry + uint64(p.Offset)
	var o, n int
	for o < len(p.covered) {
		was, err := decode(p.covered[o:])
		if err != nil {
			return err
		}
		is, err := decode(thunk[n:])
		if err != nil {
			return fmt.Errorf("at +%#x: %w", n, err)
		}
		wasRef, wasOK := was.ref(p.covered, o, old)
		isRef, isOK := is.ref(thunk, n, at)
		if wasOK != isOK || wasRef.Kind != isRef.Kind || wasRef.Target != isRef.Target {
			return fmt.Errorf("at +%#x: %+v has become %+v", n, wasRef, isRef)
		}
		if !wasRef.Branch() {
			a := bytes.Clone(p.covered[o : o+was.len])
			b := bytes.Clone(thunk[n : n+is.len])
			if wasOK {
				clear(a[was.dispOff:][:4])
				clear(b[is.dispOff:][:4])
			}
			if !bytes.Equal(a, b) {
				return fmt.Errorf("at +%#x: % x has become % x", n, a, b)
			}
		} else if wasRef.Kind == Cond && was.op&0xF != is.op&0xF {
			return fmt.Errorf("at +%#x: the condition %x has become %x", n, was.op&0xF, is.op&0xF)
		}
		o, n = o+was.len, n+is.len
		if was.ends() {
			if n != len(thunk) {
				return fmt.Errorf("%d bytes behind the end", len(thunk)-n)
			}
			return nil
		}
	}
	back, err := Refs(thunk[n:], at+uint64(n))
	if err != nil || len(back) != 1 || back[0].Kind != Jump || back[0].Len != len(thunk)-n ||
		back[0].Target != old+uint64(p.Span) {
		return fmt.Errorf("jumps back by %+v, %v", back, err)
	}
	return nil
}

// TestEveryFunctionOfRealBinaries redirects each function of a large Go
// binary and of the C library, and reports how.
func TestEveryFunctionOfRealBinaries(t *testing.T) {
	for _, file := range []struct {
		name      string
		path      func(testing.TB) string
		jump, all float64 // least share of functions with a switch, and redirected at all
		single    float64 // and by one store that leads somewhere above
		stored    float64 // and so without a switch too
		c         bool
	}{{"go", goCommand, 0.85, 0.97, 0.89, 0.93, false}, {"libc", libc, 0.8, 0.95, 0.97, 0.97, true}} {
		t.Run(file.name, func(t *testing.T) {
			im := readImage(t, file.path(t))
			outcome := map[string]int{}
			for _, f := range im.funcs {
				p, err := analyze(f.code, f.addr, file.c)
				if err != nil {
					if finding.CodeOf(err) == finding.UnsupportedTarget {
						t.Logf("%s: %v", f.name, err)
					}
					outcome["refused "+string(finding.CodeOf(err))]++
					continue
				}
				outcome[string(p.Encoding)]++
				if p.Single {
					outcome["within the first instruction"]++
				}
				q, to, why := p.OneStore()
				what := "by one store"
				if q == nil && p.Encoding == DirectEncoding {
					q, to = p.DirectStore()
					what = "directly by one store"
				}
				switch {
				case q == nil:
					outcome["not by one store: "+whyNot(why)]++
				// A C library lies high, and may be led below as well.
				case int64(to.Start) < 1<<20 && to.End-to.Start < Anywhere && !file.c:
					outcome["not by one store: it would lead below the program"]++
				default:
					outcome[what]++
					if to.End-to.Start == 1 {
						outcome["to a single place"]++
					}
				}
				if p.Encoding == DirectEncoding {
					continue
				}
				for _, at := range []uint64{f.addr + 1<<30, f.addr - 1<<30, f.addr + 1<<31 - 1<<28} {
					thunk, err := p.Thunk(at)
					if err == nil {
						err = checkThunk(p, thunk, at)
					}
					if err != nil {
						t.Errorf("%s: % x -> % x at %#x: %v", f.name, p.covered, thunk, at, err)
					}
				}
			}
			n := float64(len(im.funcs))
			t.Logf("%d functions", len(im.funcs))
			for what, count := range outcome {
				t.Logf("%6d %5.1f %% %s", count, 100*float64(count)/n, what)
			}
			jump, direct := float64(outcome["jump"]), float64(outcome["direct"])
			if jump < file.jump*n || jump+direct < file.all*n {
				t.Errorf("less than %.0f %% by jump or less than %.0f %% in all", 100*file.jump, 100*file.all)
			}
			if single := float64(outcome["by one store"]); single < file.single*n {
				t.Errorf("less than %.0f %% by one store", 100*file.single)
			}
			if all := float64(outcome["by one store"] + outcome["directly by one store"]); all < file.stored*n {
				t.Errorf("less than %.0f %% by one store, with a switch or without", 100*file.stored)
			}
			if bad := outcome["refused "+string(finding.UnsupportedTarget)]; float64(bad) > 0.01*n {
				t.Errorf("%d functions cannot be decoded", bad)
			}
		})
	}
}

// whyNot is a reason without the instruction.
func whyNot(why string) string {
	if _, reason, found := strings.Cut(why, " at +0x0 "); found {
		return reason
	}
	return why
}

func TestThunkWidensBranchesAndMovesReferences(t *testing.T) {
	for _, c := range []struct{ name, code, thunk string }{
		{"short jcc", "49 3b 66 10 76 02 90 c3", // cmp 16(%r14), %rsp; jbe +8
			"49 3b 66 10 0f 86 fe ef ff ff e9 f7 ef ff ff"},
		{"near jcc", "49 3b 66 10 0f 86 00 01 00 00 c3", // jbe +0x10a
			"49 3b 66 10 0f 86 00 f1 ff ff e9 fb ef ff ff"},
		{"rip-relative with an immediate", "80 3d 00 02 00 00 01 c3", // cmpb $1, +0x207
			"80 3d 00 f2 ff ff 01 e9 fb ef ff ff"},
		{"jmp", "eb 10 90 90 90 90", "e9 0d f0 ff ff"},
		{"jcc with a hint", "3e 74 10 31 c0", "0f 84 0d f0 ff ff 31 c0 e9 f8 ef ff ff"},
		{"ret", "31 c0 c3 cc cc", "31 c0 c3"},
		{"plain", "55 48 89 e5 90 c3", "55 48 89 e5 90 e9 fb ef ff ff"},
	} {
		const entry, at = 0x40_1000, 0x40_2000
		p, err := Analyze(unhex(t, c.code), entry)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		thunk, err := p.Thunk(at)
		if err != nil || !bytes.Equal(thunk, unhex(t, c.thunk)) {
			t.Errorf("%s: Thunk = % x, %v; want %s", c.name, thunk, err, c.thunk)
		} else if err := checkThunk(p, thunk, at); err != nil {
			t.Errorf("%s: % x: %v", c.name, thunk, err)
		}
	}
}

func TestThunkFitsTheWorstEntry(t *testing.T) {
	// Two short jcc and an instruction of 15 bytes.
	code := unhex(t, "75 80 75 80 66 66 66 66 66 66 2e 0f 1f 84 00 00 00 00 00")
	p, err := Analyze(code, 0x40_1000)
	if err != nil {
		t.Fatal(err)
	}
	if thunk, err := p.Thunk(0x50_0000); err != nil || len(thunk) != ThunkSize {
		t.Errorf("Thunk has %d bytes, %v; want %d", len(thunk), err, ThunkSize)
	}
}

func TestThunkOutOfRangeIsRefused(t *testing.T) {
	for _, c := range []struct {
		name, code string
		at         uint64
		text       string
	}{
		{"back", "55 48 89 e5 90", 0x1_0000_0000, "the target of the jump at 0x401005 is more than 2 GiB away"},
		{"branch", "eb 10 90 90 90", 0x1_0000_0000, "what the entry branches to at 0x401012 is more than 2 GiB away"},
		// The data is 1.5 GiB below the function, the thunk 1 GiB above it.
		{"data", "8b 05 00 00 00 a0", 0x4040_1000, "what the entry refers to at 0xffffffffa0401006 is more than 2 GiB away"},
	} {
		p, err := Analyze(unhex(t, c.code), 0x40_1000)
		if err != nil {
			t.Fatal(err)
		}
		thunk, err := p.Thunk(c.at)
		if finding.CodeOf(err) != finding.OutOfRange || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: Thunk = % x, %v; want %s: %s", c.name, thunk, err, finding.OutOfRange, c.text)
		}
	}
}

func TestThunkOfADirectPlanIsAnError(t *testing.T) {
	p, err := Analyze(unhex(t, "48 8b 00 48 8b 00 c3"), 0x40_1000)
	if err != nil {
		t.Fatal(err)
	}
	if thunk, err := p.Thunk(0x40_2000); err == nil || !strings.Contains(err.Error(), "has no thunk: 48 8b 00 at +0x0 accesses memory") {
		t.Errorf("Thunk = % x, %v", thunk, err)
	}
}

func TestThunkOfAPlanNotFromAnalyzeIsAnError(t *testing.T) {
	p := &Plan{Entry: 0x40_1000, Encoding: JumpEncoding, Span: 5}
	if thunk, err := p.Thunk(0x40_2000); err == nil || !strings.Contains(err.Error(), "has not been analyzed") {
		t.Errorf("Thunk = % x, %v", thunk, err)
	}
}

func TestJumpLeadsFromBehindEndbr(t *testing.T) {
	p, err := Analyze(unhex(t, "f3 0f 1e fa 55 48 89 e5 90 c3"), 0x40_1000)
	if err != nil {
		t.Fatal(err)
	}
	code, err := p.Jump(0x40_2000)
	if want := unhex(t, "e9 f7 0f 00 00"); err != nil || !bytes.Equal(code, want) {
		t.Errorf("Jump = % x, %v; want % x", code, err, want)
	}
	if code, err := p.Jump(0x1_0000_0000); finding.CodeOf(err) != finding.OutOfRange {
		t.Errorf("Jump too far = % x, %v; want %s", code, err, finding.OutOfRange)
	}
}
