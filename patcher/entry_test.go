package patcher_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher/build"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/internal/targettest"
)

// Compiled functions hardly ever have an entry where no jump fits; assembly
// may.
func TestFunctionsWhoseEntriesHaveNoRoomAreReachedThroughTheirCallers(t *testing.T) {
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
	r, err := build.Build(t.Context(), build.Options{Dir: filepath.Join(k.root, "tick"), Target: k.exe, Output: out})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Functions {
		if strings.HasPrefix(f.Name, "main.nothing.abi0") || strings.HasPrefix(f.Name, "main.count.abi0") {
			t.Errorf("%s is redirected, and has no room for that", f.Name)
		}
	}
	said := fmt.Sprint(r.Findings)
	for _, want := range []string{"has 1 bytes, and a redirect needs 5", "leads to +0x2, among the bytes that a redirect overwrites", string(finding.EntryTooShort), string(finding.EntryBranchTarget)} {
		if !strings.Contains(said, want) {
			t.Errorf("nothing says %q in %s", want, said)
		}
	}
	target := targettest.Start(t, targettest.Command{Path: k.exe})
	says(t, target, "old plain110")
	e, detach := attach(t, target)
	p := load(t, e, out)
	activate(t, e, p)
	says(t, target, "old plain120")
	deactivate(t, e, p)
	detach()
	target.MustLive()
}
