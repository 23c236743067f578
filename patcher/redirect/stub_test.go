package redirect

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher/finding"
)

func TestStubReadsItsSwitchAndLeadsToBothVersions(t *testing.T) {
	const at, sw, newCode, next = 0x1000_0040, 0x1100_0003, 0x1200_0000, 0x0040_1000
	stub, err := Stub(at, sw, newCode, next)
	if err != nil {
		t.Fatal(err)
	}
	if len(stub) != StubSize {
		t.Errorf("a stub of %d bytes, want %d", len(stub), StubSize)
	}
	refs, err := Refs(stub, at)
	if err != nil {
		t.Fatal(err)
	}
	const nextAt = StubSize - StubNextSize
	want := []Ref{
		{Mem, 0, 7, 2, 4, sw},
		{Cond, 7, 6, 9, 4, newCode},
		{Jump, nextAt, 5, nextAt + 1, 4, next},
	}
	for i, r := range refs {
		if i >= len(want) || r != want[i] {
			t.Errorf("reference %d is %+v", i, r)
		}
	}
	if !inOneWord(at + nextAt) {
		t.Error("jmp next is not in one word")
	}
}

// inOneWord tells whether one store changes the instruction that ends a stub.
func inOneWord(at uint64) bool { return at/wordSize == (at+StubNextSize-1)/wordSize }

// What it does is seen in package patcher, in processes.
func TestMarkedStubReadsItsSwitchAndTheMark(t *testing.T) {
	const at, sw, newCode, next, mark = 0x1000_0040, 0x1100_0003, 0x1200_0000, 0x0040_1000, 0x1300_0008
	stub, err := MarkedStub(at, sw, newCode, next, 0x168, mark)
	if err != nil {
		t.Fatal(err)
	}
	if len(stub) != MarkedStubSize {
		t.Errorf("a stub of %d bytes, want %d", len(stub), MarkedStubSize)
	}
	refs, err := Refs(stub, at)
	if err != nil {
		t.Fatal(err)
	}
	const nextAt = MarkedStubSize - StubNextSize
	want := []Ref{
		{Mem, 0, 7, 2, 4, sw},
		{Cond, 7, 6, 9, 4, newCode},
		{Mem, 20, 7, 23, 4, mark},
		{Cond, 27, 6, 29, 4, newCode},
		{Jump, nextAt, 5, nextAt + 1, 4, next},
	}
	if !inOneWord(at + nextAt) {
		t.Error("jmp next is not in one word")
	}
	if !slices.Equal(refs, want) {
		t.Errorf("references %+v, want %+v", refs, want)
	}
	if _, err := MarkedStub(at, sw, newCode, next, 0x168, at+1<<31+64); finding.CodeOf(err) != finding.OutOfRange || !strings.Contains(err.Error(), "the mark at 0x") {
		t.Errorf("a mark that is far away: %v", err)
	}
}

func TestStubNextRepointsAStub(t *testing.T) {
	const at = 0x1000_0000
	for _, to := range []uint64{at - 0x400, at + StubSize} {
		stub, err := Stub(at, at+0x100, at+0x200, at+0x300)
		if err != nil {
			t.Fatal(err)
		}
		want, err := Stub(at, at+0x100, at+0x200, to)
		if err != nil {
			t.Fatal(err)
		}
		const field = StubSize - StubNextSize
		next, err := StubNext(at+field, to)
		if err != nil {
			t.Fatal(err)
		}
		copy(stub[field:], next)
		if !bytes.Equal(stub, want) {
			t.Errorf("repointed % x, want % x", stub, want)
		}
	}
}

// What lies right behind a stub is come to without a jump.
func TestStubRunsOnIntoWhatIsBehindIt(t *testing.T) {
	const at = 0x1000_0000
	stub, err := Stub(at, at+0x100, at+0x200, at+StubSize)
	if err != nil {
		t.Fatal(err)
	}
	marked, err := MarkedStub(at, at+0x100, at+0x200, at+MarkedStubSize, 0x168, at+0x300)
	if err != nil {
		t.Fatal(err)
	}
	for _, code := range [][]byte{stub, marked} {
		last, err := decode(code[len(code)-StubNextSize:])
		if err != nil || last.len != StubNextSize || !last.hint() || last.branch() != 0 {
			t.Errorf("it ends with % x: %v", code[len(code)-StubNextSize:], err)
		}
	}
}

func TestStubOutOfRangeIsRefused(t *testing.T) {
	const at, far = 0x1000_0000, 0x1000_0000 + 1<<31 + 64
	for _, c := range []struct {
		sw, newCode, next uint64
		text              string
	}{
		{far, at, at, "the switch at 0x90000040 is more than 2 GiB away"},
		{at, far, at, "the new code at 0x90000040 is more than 2 GiB away"},
		{at, at, far, "the code below at 0x90000040 is more than 2 GiB away"},
	} {
		stub, err := Stub(at, c.sw, c.newCode, c.next)
		if finding.CodeOf(err) != finding.OutOfRange || !strings.Contains(err.Error(), c.text) {
			t.Errorf("Stub = % x, %v; want %s: %s", stub, err, finding.OutOfRange, c.text)
		}
	}
}

func TestStubRangeIsExact(t *testing.T) {
	const at = 0x1_0000_0000
	for _, d := range []int64{1<<31 - 1, -1 << 31} {
		edge := at + StubNextSize + uint64(d)
		if _, err := StubNext(at, edge); err != nil {
			t.Errorf("at the edge: %v", err)
		}
		if _, err := StubNext(at, edge+uint64(d>>63|1)); err == nil {
			t.Errorf("one byte past the edge %#x: no error", edge)
		}
	}
}

func TestStubMustBeAligned(t *testing.T) {
	if _, err := Stub(0x1004, 0x1000, 0x1000, 0x1000); err == nil || !strings.Contains(err.Error(), "not aligned to 8 bytes") {
		t.Errorf("Stub at an odd address: %v", err)
	}
}
