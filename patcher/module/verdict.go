package module

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/darn-dev/darn/patcher/finding"
)

// Outcome is what becomes of a function that an edit touches.
type Outcome string

// The outcomes.
const (
	Replaced Outcome = "replaced"
	New      Outcome = "new"
	Refused  Outcome = "refused"
	// KeepsOldCode is a function that a partial build left out.
	KeepsOldCode Outcome = "keeps old code"
)

// Verdict says what becomes of one function.
type Verdict struct {
	Function string  `json:"function"`         // its symbol
	Source   string  `json:"source,omitempty"` // file:line of the new source
	Outcome  Outcome `json:"outcome"`
	Why      string  `json:"why,omitempty"`
}

// String formats v like a compiler's diagnostic.
func (v Verdict) String() string {
	severity := finding.Info
	switch v.Outcome {
	case Refused:
		severity = finding.Error
	case KeepsOldCode:
		severity = finding.Warning
	}
	text := string(severity) + ": " + v.Function + ": " + string(v.Outcome)
	if v.Source != "" {
		text = v.Source + ": " + text
	}
	if v.Why != "" {
		text += ": " + v.Why
	}
	return text
}

// Verdicts says for each function that the edit touched what becomes of it, by
// file and line. findings are those of the module, and of the target if it was
// checked against one: an error about a function refuses it.
func (m *Manifest) Verdicts(findings []finding.Finding) []Verdict {
	verdicts := []Verdict{}
	for _, f := range m.Functions {
		v := Verdict{f.Symbol, f.Source, Replaced, f.Why}
		for _, x := range findings {
			if x.Severity == finding.Error && x.Function == f.Symbol {
				v.Outcome, v.Why = Refused, x.Message
			}
		}
		verdicts = append(verdicts, v)
	}
	for _, d := range m.Added {
		verdicts = append(verdicts, Verdict{d.Symbol, d.Source, New, d.Why})
	}
	for _, d := range m.LeftOut {
		verdicts = append(verdicts, Verdict{d.Symbol, d.Source, KeepsOldCode, d.Why})
	}
	slices.SortStableFunc(verdicts, func(a, b Verdict) int {
		aFile, aLine := place(a.Source)
		bFile, bLine := place(b.Source)
		return cmp.Or(cmp.Compare(aFile, bFile), aLine-bLine, cmp.Compare(a.Function, b.Function))
	})
	return verdicts
}

// place splits file:line.
func place(source string) (file string, line int) {
	i := strings.LastIndexByte(source, ':')
	line, _ = strconv.Atoi(source[i+1:])
	return source[:max(i, 0)], line
}
