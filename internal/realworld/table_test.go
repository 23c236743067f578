package realworld

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher"
)

// table is the document that TestFixes remakes.
const table = "../../docs/real-fixes.md"

// writeTable writes what became of every fix.
func writeTable(t *testing.T, outcomes []*outcome) {
	t.Helper()
	var b strings.Builder
	applied, seen := 0, 0
	for _, o := range outcomes {
		if o.refusal == nil {
			applied++
			if o.fix.probe != nil {
				seen++
			}
		}
	}
	fmt.Fprintf(&b, `# Real fixes

Bug fixes of real projects, each taken alone: the hunks that make it up, from
the difference of two adjacent tagged versions. The program is built from the
older version as its users build it, runs as a server under requests, and gets
the fix with Darn: load, activate and deactivate twice, unload. `+"`make fixes`"+`
does all of it and writes this page; `+"`make test`"+` does it for a few of them.

Of %d fixes %d apply and %d are refused. "Seen" says that a request
showed the bug before, the fix while it was active, and the bug again
afterwards (%d of the fixes that apply); without it the program was only seen to
go on serving. The times are those for which Darn kept the program from running,
as the receipts give them, on the machine that wrote the page: while loading,
at the first activation and while unloading.

`, len(outcomes), applied, len(outcomes)-applied, seen)
	for i, o := range outcomes {
		r := o.release
		if i == 0 || outcomes[i-1].release != r {
			fmt.Fprintf(&b, "\n## %s %s to %s\n\n| fix | functions | outcome | seen | load | activate | unload |\n|---|---|---|---|---|---|---|\n", r.name, r.from, r.to)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s |\n", cell(o.fix.what), o.functionCell(), o.outcomeCell(), o.seenCell(),
			o.halt("load"), o.halt("activate"), o.halt("unload"))
	}
	if err := os.MkdirAll("../../docs", 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(table, []byte(b.String()), 0o666); err != nil {
		t.Fatal(err)
	}
}

// cell makes text fit for a cell of a table.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ").Replace(text)
}

// functionCell names the first functions that are replaced.
func (o *outcome) functionCell() string {
	const most = 3
	var names []string
	for _, f := range o.functions {
		if len(names) == most {
			names = append(names, fmt.Sprintf("and %d more", len(o.functions)-most))
			break
		}
		names = append(names, "`"+f.Name[strings.LastIndex(f.Name, "/")+1:]+"`")
	}
	return cell(strings.Join(names, ", "))
}

func (o *outcome) outcomeCell() string {
	switch {
	case o.refusal != nil:
		return fmt.Sprintf("refused, `%s`: %s", o.refusal.Code, cell(o.refusal.Message))
	case o.inUse != "":
		return "applied; not unloaded: " + cell(o.inUse)
	}
	return "applied"
}

func (o *outcome) seenCell() string {
	if o.fix.probe != nil && o.refusal == nil {
		return "yes"
	}
	return ""
}

// halt tells for how long the first operation of the kind halted the program.
func (o *outcome) halt(operation patcher.Operation) string {
	for _, r := range o.receipts {
		if r.Operation == operation {
			return fmt.Sprintf("%.1f ms", float64(r.HaltMicros)/1000)
		}
	}
	return ""
}
