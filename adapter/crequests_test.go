package adapter

import (
	"strings"
	"testing"

	"github.com/google/go-dap"
)

// deskStopped attaches to a program of C and stops where a line has a mark.
func deskStopped(t *testing.T, mark string) (*client, *child, dap.StoppedEventBody) {
	t.Helper()
	c, target := debugDesk(t, "-O0")
	path, line := source(t, deskSource, mark)
	c.breakpoints(path, line)
	c.configured()
	stop := c.stoppedFor("breakpoint")
	c.breakpoints(path)
	return c, target, stop
}

func TestACFunctionIsDisassembled(t *testing.T) {
	c, target, stop := deskStopped(t, "// counted")
	top := c.frame(stop.ThreadId, "total")
	var r dap.DisassembleResponseBody
	c.call("disassemble", dap.DisassembleArguments{MemoryReference: top.InstructionPointerReference, InstructionOffset: -20, InstructionCount: 40}, &r)
	if len(r.Instructions) != 40 || r.Instructions[20].Address != top.InstructionPointerReference {
		t.Fatalf("the page has %d instructions", len(r.Instructions))
	}
	calls := false
	for _, in := range r.Instructions {
		calls = calls || strings.Contains(strings.ToLower(in.Instruction), "call") && strings.Contains(in.Instruction, "price")
	}
	if in := r.Instructions[20]; in.Line != top.Line || !strings.HasSuffix(in.Location.Path, "/cdesk.c") || !calls {
		t.Errorf("the page does not show the source or the call of price: %+v", r.Instructions)
	}
	c.goesOn(target)
}

func TestAnInstructionBreakpointStopsAThreadOfC(t *testing.T) {
	c, target, stop := deskStopped(t, "// counted")
	at := c.frame(stop.ThreadId, "total").InstructionPointerReference
	var r dap.SetInstructionBreakpointsResponseBody
	set := func(breakpoints ...dap.InstructionBreakpoint) {
		t.Helper()
		c.call("setInstructionBreakpoints", dap.SetInstructionBreakpointsArguments{Breakpoints: append([]dap.InstructionBreakpoint{}, breakpoints...)}, &r)
	}
	set(dap.InstructionBreakpoint{InstructionReference: at, Condition: "order->items[1].price == 5"})
	if !r.Breakpoints[0].Verified {
		t.Errorf("not verified: %+v", r.Breakpoints[0])
	}
	c.resume("continue", stop.ThreadId)
	stop = c.stoppedFor("instruction breakpoint")
	if f := c.frames(stop.ThreadId)[0]; f.InstructionPointerReference != at {
		t.Errorf("stopped at %+v", f)
	}
	set()
	c.goesOn(target)
}

func TestADataBreakpointStopsTheCThreadThatWrites(t *testing.T) {
	for name, writer := range map[string]string{"served": "serve", "sum": "total", "local sum": "total"} {
		t.Run(name, func(t *testing.T) {
			c, target, stop := deskStopped(t, "// in total")
			f := c.frame(stop.ThreadId, "total")
			a := dap.DataBreakpointInfoArguments{Name: name, FrameId: f.Id}
			if rest, ok := strings.CutPrefix(name, "local "); ok {
				scope, _ := c.locals(f.Id)
				a = dap.DataBreakpointInfoArguments{Name: rest, VariablesReference: scope}
			}
			var info dap.DataBreakpointInfoResponseBody
			c.call("dataBreakpointInfo", a, &info)
			var r dap.SetDataBreakpointsResponseBody
			c.call("setDataBreakpoints", dap.SetDataBreakpointsArguments{Breakpoints: []dap.DataBreakpoint{{DataId: info.DataId.(string), AccessType: "write"}}}, &r)
			if len(r.Breakpoints) != 1 || !r.Breakpoints[0].Verified {
				t.Fatalf("not verified: %+v of %+v", r.Breakpoints, info)
			}
			stopped := stop.ThreadId
			c.resume("continue", stopped)
			stop = c.stoppedFor("data breakpoint")
			if f := c.frames(stop.ThreadId)[0]; f.Name != writer || writer == "total" && stop.ThreadId != stopped {
				t.Errorf("%s is written in %+v", name, f)
			}
			c.call("setDataBreakpoints", dap.SetDataBreakpointsArguments{Breakpoints: []dap.DataBreakpoint{}}, nil)
			c.goesOn(target)
		})
	}
}

func TestALaunchedCProgramIsRestarted(t *testing.T) {
	c, _ := session(t)
	arguments := map[string]any{"mode": "exec", "program": desk(t, "-O0"), "args": []string{"3"}}
	c.start("launch", arguments)
	path, line := source(t, deskSource, "// in main")
	c.breakpoints(path, line)
	c.configured()
	c.stoppedFor("breakpoint")
	first := c.threadsByName()["desk-O0"]
	c.call("restart", map[string]any{"arguments": map[string]any{"request": "launch", "mode": "exec", "program": desk(t, "-O0"), "args": []string{"1"}}}, nil)
	c.event("initialized", nil)
	c.breakpoints(path, line)
	c.configured()
	stop := c.stoppedFor("breakpoint")
	ids := c.threadsByName()
	if ids["desk-O0"] == first || ids["desk-O0"] != stop.ThreadId {
		t.Errorf("stopped in %d, the process was %d, and the threads are %v", stop.ThreadId, first, ids)
	}
	if got := c.evaluateIn(c.frame(stop.ThreadId, "main").Id, "desks"); got != "1" {
		t.Errorf("there are %s desks after the restart with 1", got)
	}
	c.disconnect(true)
}
