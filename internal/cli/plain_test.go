package cli

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/finding"
)

// A process says itself what the patches in it are called.
func TestNothingThatIsPrintedIsObeyedByATerminal(t *testing.T) {
	const name = "\x1b]0;owned\x07\x1b[2J\u009b1m\rfix\x7f é"
	var stdout, stderr bytes.Buffer
	a := &app{stdout: plain{&stdout}, stderr: plain{&stderr}}
	a.printPatch(&patcher.Patch{ID: name, Name: name, State: patcher.Active, Functions: []patcher.Function{{Name: name, Source: name}}})
	a.printError(errors.New(name))
	a.printError(finding.Refuse(finding.Busy, name, name))
	for _, text := range []string{stdout.String(), stderr.String()} {
		if strings.ContainsAny(text, "\x1b\x07\r\x7f\u009b") || !strings.Contains(text, "?]0;owned??[2J?1m?fix? é") || !strings.HasSuffix(text, "\n") {
			t.Errorf("printed is %q", text)
		}
	}
}
