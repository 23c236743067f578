package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/ianlancetaylor/demangle"

	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/module"
)

// printJSON prints v as one line of JSON.
func (a *app) printJSON(v any) error {
	encoder := json.NewEncoder(a.stdout)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}

// printError prints why a command failed: on standard error in words, and
// with --json as an object on standard output too.
func (a *app) printError(err error) {
	refusal, refused := errors.AsType[*finding.Refusal](err)
	if a.json && err != errNotLoadable {
		failure := struct {
			Error    string            `json:"error"`
			Findings []finding.Finding `json:"findings,omitempty"`
		}{Error: err.Error()}
		if refused {
			failure.Findings = refusal.Findings
		}
		// Standard error still gets the reason if this fails.
		_ = a.printJSON(failure)
	}
	if refused {
		a.printFindings(refusal.Findings)
		return
	}
	fmt.Fprintf(a.stderr, "darn: %v\n", err)
}

// printFindings prints findings on standard error as a compiler does.
func (a *app) printFindings(findings []finding.Finding) {
	for _, f := range findings {
		fmt.Fprintln(a.stderr, f)
	}
}

// printVerdicts prints what becomes of each function as a compiler does.
func (a *app) printVerdicts(verdicts []module.Verdict) {
	for _, v := range verdicts {
		fmt.Fprintln(a.stdout, v)
	}
}

// printPatch says what a patch is and in which state.
func (a *app) printPatch(p *patcher.Patch) {
	fmt.Fprintf(a.stdout, "patch %s (%s) is %s%s\n", p.ID, p.Name, p.State, p.Initialisation)
	a.printFunctions(p.Functions)
}

// printFunctions prints a line for each function.
func (a *app) printFunctions(functions []patcher.Function) {
	table := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	for _, f := range functions {
		line := "  " + demangle.Filter(f.Name)
		if f.Address != 0 {
			line += fmt.Sprintf("\t%#x", f.Address)
		}
		if f.NewAddress != 0 {
			line += fmt.Sprintf("\t-> %#x", f.NewAddress)
		}
		line += "\t" + f.Source
		switch {
		case f.FramesInOldCode > 0:
			line += fmt.Sprintf("\t%s in old code", count(f.FramesInOldCode, "frame", "frames"))
		case f.FramesInOldCode < 0:
			line += "\tframes in old code not counted"
		}
		fmt.Fprintln(table, line)
	}
	table.Flush()
}

// describeReceipt is a receipt in a line of words.
func describeReceipt(r *patcher.Receipt) string {
	text := fmt.Sprintf("%s took %s", r.Operation, micros(r.DurationMicros))
	if r.Halts == 0 {
		text += ", no halt"
	} else {
		text += fmt.Sprintf(", %s (%s, %s)", count(r.Halts, "halt", "halts"), micros(r.HaltMicros), count(r.ThreadsHalted, "thread", "threads"))
	}
	if r.HaltedBecause != "" {
		text += ", since " + r.HaltedBecause
	}
	if r.Looks > 0 {
		text += ", " + count(r.Looks, "look", "looks")
	}
	if n := len(r.Replaced); n > 0 {
		text += fmt.Sprintf(", %s replaced (%s)", count(n, "patch", "patches"), strings.Join(r.Replaced, ", "))
	}
	for _, encoding := range slices.Sorted(maps.Keys(r.Encodings)) {
		text += fmt.Sprintf(", %s (%s)", count(r.Encodings[encoding], "redirect", "redirects"), encoding)
	}
	return text
}

// count is n with its noun.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// micros formats microseconds with three digits that count.
func micros(n int64) string {
	d := time.Duration(n) * time.Microsecond
	for unit := time.Microsecond; ; unit *= 10 {
		if d < 1000*unit {
			return d.Round(unit).String()
		}
	}
}

// indent puts each line of text below a heading.
func indent(text string) string {
	return "  " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n  ")
}
