package realworld

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/finding"
)

const (
	// table is the document that TestFixes remakes.
	table = "../../docs/real-fixes.md"
	// outcomes is what it knows of earlier runs: the outcome of each fix, by name.
	outcomes = "testdata/fixes/outcomes.json"
)

// outcome is what became of a fix.
type outcome struct {
	Functions []string         `json:"functions,omitempty"` // that are replaced
	Code      finding.Code     `json:"code,omitempty"`      // of the finding that refused it
	Message   string           `json:"message,omitempty"`   // the same in words
	InUse     string           `json:"inUse,omitempty"`     // why it could not be unloaded
	Halts     map[string]int64 `json:"halts,omitempty"`     // by operation, the first time: microseconds
}

// halted notes for how long the first operation of its kind halted the program.
func (o *outcome) halted(r patcher.Receipt) {
	if o.Halts == nil {
		o.Halts = map[string]int64{}
	}
	if _, ok := o.Halts[string(r.Operation)]; !ok {
		o.Halts[string(r.Operation)] = r.HaltMicros
	}
}

func readOutcomes(t *testing.T) map[string]outcome {
	t.Helper()
	known := map[string]outcome{}
	data, err := os.ReadFile(outcomes)
	if os.IsNotExist(err) {
		return known
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &known); err != nil {
		t.Fatal(err)
	}
	return known
}

// record keeps the outcome of a fix for the table.
func record(t *testing.T, name string, o outcome) {
	t.Helper()
	known := readOutcomes(t)
	known[name] = o
	data, err := json.MarshalIndent(known, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	write(t, outcomes, string(data)+"\n")
}

// introduction of the table, with the numbers of fixes that were tried, that
// apply, that are refused, and that were seen to work.
const introduction = "# Real fixes\n" + `
Bug fixes of real projects, each taken alone: the hunks that make it up, from
the difference of two adjacent tagged versions. The program is built from the
older version as its users build it, runs as a server under requests, and gets
the fix with Darn: load, activate and deactivate twice, unload. "make fixes"
does all of it and writes this page; "make test" does it for a few of them.

Of %d fixes %d apply and %d are refused. "Seen" says that a request showed the
bug before, the fix while it was active, and the bug again afterwards (%d of
the fixes that apply); without it the program was only seen to go on serving.
The times are those for which Darn kept the program from running, as the
receipts give them, on the machine that wrote the page, which had other things
to do: while loading, at the first activation and while unloading. Deactivating
halts nothing.
`

// writeTable writes what became of every fix.
func writeTable(t *testing.T) {
	t.Helper()
	known := readOutcomes(t)
	var rows strings.Builder
	tried, applied, seen := 0, 0, 0
	for _, r := range releases {
		fmt.Fprintf(&rows, "\n## %s %s to %s\n\n| fix | functions | outcome | seen | load | activate | unload |\n|---|---|---|---|---|---|---|\n", r.name, r.from, r.to)
		for _, f := range r.fixes {
			o, ok := known[f.name]
			if !ok {
				t.Logf("%s was never tried: it is not in the table", f.name)
				continue
			}
			tried++
			see := ""
			if o.Code == "" {
				applied++
				if f.probe != nil {
					seen++
					see = "yes"
				}
			}
			fmt.Fprintf(&rows, "| %s | %s | %s | %s | %s | %s | %s |\n", cell(f.what), o.functionCell(), o.outcomeCell(f.note), see,
				o.halt("load"), o.halt("activate"), o.halt("unload"))
		}
	}
	write(t, table, fmt.Sprintf(introduction, tried, applied, tried-applied, seen)+rows.String())
}

// cell makes text fit for a cell of a table.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ").Replace(text)
}

// functionCell names the first functions that are replaced.
func (o *outcome) functionCell() string {
	const most = 3
	var names []string
	for i, f := range o.Functions {
		if i == most {
			names = append(names, fmt.Sprintf("and %d more", len(o.Functions)-most))
			break
		}
		names = append(names, "`"+f[strings.LastIndex(f, "/")+1:]+"`")
	}
	return cell(strings.Join(names, ", "))
}

func (o *outcome) outcomeCell(note string) string {
	if o.Code != "" {
		return fmt.Sprintf("refused, `%s`: %s", o.Code, cell(o.Message))
	}
	text := "applied"
	if note != "" {
		text += "; " + note
	}
	if o.InUse != "" {
		first, _, _ := strings.Cut(o.InUse, ";")
		text += "; stays loaded, `in-use`: " + cell(first)
	}
	return text
}

func (o *outcome) halt(operation string) string {
	if micros, ok := o.Halts[operation]; ok {
		return fmt.Sprintf("%.1f ms", float64(micros)/1000)
	}
	return ""
}
