package patcher_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher/build"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/internal/targettest"
)

// Compiled functions hardly ever have an entry where no jump fits; assembly
// may.
func TestEntriesWhereNoJumpFitsAreRefused(t *testing.T) {
	ownCache(t)
	const assembly = `#include "textflag.h"

TEXT ·nothing(SB), NOSPLIT, $0-0
	RET

TEXT ·count(SB), NOSPLIT, $0-8
	XORL AX, AX
again:
	INCQ AX
	CMPQ AX, $10
	JLT  again
	MOVQ AX, ret+0(FP)
	RET
`
	main := strings.NewReplacer("word.Say(kind + version)", "word.Say(kind+version) + strconv.Itoa(count())",
		"\t\"time\"\n", "\t\"strconv\"\n\t\"time\"\n", "\ttime.Sleep(", "\tnothing()\n\t\ttime.Sleep(").Replace(tickerSource["tick/main.go"]) +
		"\nfunc nothing()\n\nfunc count() int\n"
	k := newTicker(t, "tick/asm_amd64.s", assembly, "tick/main.go", main)
	k.build(t)
	k.write(t, "tick/asm_amd64.s", strings.NewReplacer("$10", "$20", "$0-0\n", "$0-0\n\tXORL AX, AX\n").Replace(assembly))
	out := filepath.Join(t.TempDir(), "edit.so")
	if _, err := build.Build(t.Context(), build.Options{Dir: filepath.Join(k.root, "tick"), Target: k.exe, Output: out}); err != nil {
		t.Fatal(err)
	}
	target := targettest.Start(t, targettest.Command{Path: k.exe})
	says(t, target, "old plain110")
	e, detach := attach(t, target)
	before := snapshot(t, target.Pid())
	_, _, err := e.Load(t.Context(), out)
	r := finding.As(err)
	if r == nil || len(r.Findings) != 2 {
		t.Fatalf("load says %v", err)
	}
	for _, f := range r.Findings {
		want := map[string]finding.Finding{
			"main.nothing.abi0": {Code: finding.EntryTooShort, Message: "has 1 bytes, and a redirect needs 5"},
			"main.count.abi0":   {Code: finding.EntryBranchTarget, Message: "leads to +0x2, among the bytes that a redirect overwrites"},
		}[f.Function]
		if f.Code != want.Code || !strings.Contains(f.Message, want.Message) || f.Advice == "" || !strings.Contains(f.Source, "asm_amd64.s:") {
			t.Errorf("it says %+v", f)
		}
	}
	if d := before.diff(snapshot(t, target.Pid())); d != "" {
		t.Errorf("the process is not as it was:\n%s", d)
	}
	says(t, target, "old plain110")
	detach()
}
