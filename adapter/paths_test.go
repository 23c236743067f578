package adapter

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-dap"

	builder "github.com/darn-dev/darn/patcher/build"
)

// seesInto activates a module in a program, and fails the test unless a breakpoint
// stops in the line of the new total that holds mark, where the file is the
// client's and the variable has its value. It returns the topmost frame.
func seesInto(t *testing.T, c *client, get func(string) string, module, main string, line int, variable, value string) dap.StackFrame {
	t.Helper()
	p := c.patch("load", map[string]any{"path": module})
	c.patch("activate", map[string]any{"id": p.ID})
	if b := c.breakpoints(main, line); !b[0].Verified || b[0].Line != line {
		t.Errorf("the breakpoint is %+v", b)
	}
	t.Cleanup(func() {
		c.breakpoints(main)
		c.call("continue", map[string]any{"threadId": 1}, nil)
		c.disconnect(false)
		if got := get("/total"); got != "270" {
			t.Errorf("the total is %s", got)
		}
	})
	go get("/total")
	stop := c.stoppedFor("breakpoint")
	var r dap.StackTraceResponseBody
	c.call("stackTrace", dap.StackTraceArguments{ThreadId: stop.ThreadId, Levels: 3}, &r)
	top := r.StackFrames[0]
	addr, err := strconv.ParseUint(top.InstructionPointerReference, 0, 64)
	// Its callers may have been replaced in its place.
	if f := p.Functions[0]; err != nil || addr>>16 != f.NewAddress>>16 {
		t.Errorf("stopped at %#x, and the new %s is at %#x", addr, f.Name, f.NewAddress)
	}
	for _, f := range r.StackFrames[:2] { // total and who calls it
		if f.Source == nil || f.Source.Path != main {
			t.Errorf("the frame %s is in %+v, want %s", f.Name, f.Source, main)
		}
	}
	if top.Name != "main.total" || top.Line != line {
		t.Errorf("stopped in %s:%d, want line %d", top.Name, top.Line, line)
	}
	var scopes dap.ScopesResponseBody
	c.call("scopes", map[string]any{"frameId": top.Id}, &scopes)
	var locals dap.VariablesResponseBody
	c.call("variables", map[string]any{"variablesReference": scopes.Scopes[0].VariablesReference}, &locals)
	if !slices.ContainsFunc(locals.Variables, func(v dap.Variable) bool { return v.Name == variable && v.Value == value }) {
		t.Errorf("the variables are %+v, want %s = %s", locals.Variables, variable, value)
	}
	return top
}

// plainly has the program's own package, and no other, compiled without
// optimisations.
const plainly = "-gcflags=-N -l"

var threeLines = []string{"\treturn n * price\n", "\tsum := n * price\n\tsum -= 30\n\treturn sum\n"}

// The paths in a program built with -trimpath begin with the module's, for which
// the client's configuration has the folder.
func TestPatchesOfProgramsWithTrimmedPathsAreSeenInto(t *testing.T) {
	main, module, exe := editTarget(t, "shop", threeLines, "-trimpath", plainly)
	target, get := startShop(t, exe)
	c, _ := session(t)
	c.start("attach", map[string]any{"mode": "local", "processId": target.Process.Pid,
		"substitutePath": []map[string]string{{"from": filepath.Dir(main), "to": "example.com/shop"}}})
	c.configured()
	seesInto(t, c, get, module, main, lineOf(t, main, "return sum"), "sum", "270")
}

// A module of a buffer that was not saved is of the file that the buffer shows.
func TestPatchesOfUnsavedBuffersAreSeenInto(t *testing.T) {
	main, _, _ := editTarget(t, "shop", threeLines, plainly)
	dir := t.TempDir()
	text, err := os.ReadFile(main)
	if err != nil {
		t.Fatal(err)
	}
	// The file is as the program was built from, and the buffer as edited.
	saved := filepath.Join(dir, "src", "main.go")
	buffer, overlay, module := filepath.Join(dir, "buffer.go"), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "unsaved.so")
	if err := os.CopyFS(filepath.Dir(saved), os.DirFS("../testdata/targets/shop")); err != nil {
		t.Fatal(err)
	}
	list, _ := json.Marshal(map[string]any{"Replace": map[string]string{saved: buffer}})
	for path, text := range map[string][]byte{buffer: text, overlay: list} {
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	exe := buildIn(t, filepath.Dir(saved), plainly)
	if err := patchBuilder.Build(t.Context(), builder.Options{Dir: filepath.Dir(saved), Overlay: overlay, Target: exe, Output: module}); err != nil {
		t.Fatal(err)
	}
	c, _, get := debugShop(t, exe)
	// The client shows the file's numbering until it is saved.
	seesInto(t, c, get, module, saved, lineOf(t, saved, "return n * price"), "n", "3")
}

// The disassembly of new code is of the module's bytes, with the lines of the
// edited file.
func TestNewCodeIsDisassembledWithTheEditedLines(t *testing.T) {
	main, module, exe := editTarget(t, "shop", threeLines, plainly)
	c, target, get := debugShop(t, exe)
	first := lineOf(t, main, "sum := n * price")
	top := seesInto(t, c, get, module, main, first+2, "sum", "270")
	var d dap.DisassembleResponseBody
	c.call("disassemble", map[string]any{"memoryReference": top.InstructionPointerReference, "instructionOffset": -200, "instructionCount": 400}, &d)
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", target.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	lines := map[int]bool{}
	if len(d.Instructions) != 400 {
		t.Errorf("%d instructions", len(d.Instructions))
	}
	for _, i := range d.Instructions {
		if i.Instruction == "invalid instruction" {
			continue // a module has few functions
		}
		if i.Location != nil && !strings.HasPrefix(i.Address, top.InstructionPointerReference[:6]) {
			t.Errorf("%s is not in the module", i.Address)
		}
		if i.Location != nil && i.Location.Path == main {
			lines[i.Line] = true
		}
		addr, _ := strconv.ParseInt(i.Address, 0, 64)
		want, _ := hex.DecodeString(i.InstructionBytes)
		got := make([]byte, len(want))
		if _, err := memory.ReadAt(got, addr); err != nil || len(want) == 0 {
			t.Fatalf("%+v: %v", i, err)
		}
		if i.Address == top.InstructionPointerReference {
			got[0] = want[0] // a breakpoint is there
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s shows % x, and there is % x", i.Address, want, got)
		}
	}
	for line := first + 1; line <= first+2; line++ {
		if !lines[line] {
			t.Errorf("no instruction is in line %d: %+v", line, d.Instructions)
		}
	}
}
