package adapter

import (
	"encoding/base64"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-dap"
)

// Sessions for TestSessionsSoundLikeDelves that together make every request
// that Delve's own test client can make, in the states in which it matters.

// delveRequests returns the commands of all requests that Delve's test client
// can make, with the method that makes it, from that client's source.
func delveRequests(t *testing.T) map[string]string {
	t.Helper()
	dir, err := exec.Command("go", "list", "-f", "{{.Dir}}", "github.com/go-delve/delve/service/dap/daptest").Output()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(strings.TrimSpace(string(dir)), "client.go")
	source, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	commands := make(map[string]string)
	for _, d := range source.Decls {
		method, ok := d.(*ast.FuncDecl)
		if !ok || method.Recv == nil {
			continue
		}
		ast.Inspect(method, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) != 1 {
				return true
			}
			name, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || name.Sel.Name != "newRequest" {
				return true
			}
			literal, ok := call.Args[0].(*ast.BasicLit)
			if !ok {
				t.Fatalf("%s makes a request that this test can't name", method.Name.Name)
			}
			command, err := strconv.Unquote(literal.Value)
			if err != nil {
				t.Fatal(err)
			}
			commands[command] = method.Name.Name
			return true
		})
	}
	if len(commands) < 30 {
		t.Fatalf("%s makes these requests only: %v", file, commands)
	}
	return commands
}

func holdBreakpoints(c *client) {
	c.start("launch", map[string]any{"mode": "exec", "program": build(c.t, "steps"), "stopOnEntry": true})
	path, loop := source(c.t, "steps/main.go", "// in the loop")
	_, begin := source(c.t, "steps/main.go", "// begin")
	_, inside := source(c.t, "steps/main.go", "// inside add")
	_, end := source(c.t, "steps/main.go", "// end")
	set := func(breakpoints ...map[string]any) {
		c.t.Helper()
		c.try("setBreakpoints", map[string]any{"source": map[string]any{"path": path, "name": "main.go"}, "breakpoints": breakpoints})
	}
	set(map[string]any{"line": loop, "condition": "i =="})
	set(map[string]any{"line": end, "hitCondition": "now and then"}) // Delve leaves it disabled
	set(
		map[string]any{"line": begin, "logMessage": "there are {len(numbers)} numbers, {nosuch}"},
		map[string]any{"line": loop, "condition": "i == 1"},
		map[string]any{"line": inside, "hitCondition": "== 1"},
	)
	c.try("setBreakpoints", map[string]any{"source": map[string]any{"path": "/no/such.go"}, "breakpoints": []map[string]any{{"line": 1}}})
	c.try("setFunctionBreakpoints", map[string]any{"breakpoints": []map[string]any{
		{"name": "main.double", "condition": "n == 3"}, {"name": "main.point.add", "hitCondition": "> 5"}, {"name": "/nosuch/"}, {"name": ""},
	}})
	for _, filters := range [][]string{{"unrecovered-panic", "runtime-fatal-throw"}, {"nosuch"}, {}} {
		c.try("setExceptionBreakpoints", map[string]any{"filters": filters})
	}
	c.configured()
	c.stoppedFor("entry")
	c.resume("continue", 1)
	stop := c.stoppedFor("breakpoint") // in the loop, the second time
	var stack dap.StackTraceResponseBody
	c.call("stackTrace", dap.StackTraceArguments{ThreadId: stop.ThreadId}, &stack)
	var scopes dap.ScopesResponseBody
	c.call("scopes", map[string]any{"frameId": stack.StackFrames[0].Id}, &scopes)
	for _, name := range []string{"i", "nosuch", "words"} {
		c.try("dataBreakpointInfo", map[string]any{"variablesReference": scopes.Scopes[0].VariablesReference, "name": name})
	}
	var watched dap.DataBreakpointInfoResponseBody
	c.call("dataBreakpointInfo", map[string]any{"name": "numbers[0]", "frameId": stack.StackFrames[0].Id}, &watched)
	for _, id := range []any{watched.DataId, "nosuch"} {
		c.try("setDataBreakpoints", map[string]any{"breakpoints": []map[string]any{{"dataId": id, "accessType": "write"}}})
	}
	c.try("setDataBreakpoints", map[string]any{"breakpoints": []map[string]any{}})
	here := stack.StackFrames[0].InstructionPointerReference
	for _, reference := range []string{here, "nonsense", "0x1"} {
		c.try("setInstructionBreakpoints", map[string]any{"breakpoints": []map[string]any{{"instructionReference": reference}}})
	}
	c.try("setInstructionBreakpoints", map[string]any{"breakpoints": []map[string]any{}})
	c.resume("continue", stop.ThreadId)
	c.stoppedFor("function breakpoint") // in double, with 3
	c.resume("continue", stop.ThreadId)
	c.stoppedFor("breakpoint") // inside add
	c.end(true)
}

func holdVariables(c *client) {
	c.start("launch", map[string]any{"mode": "exec", "program": build(c.t, "steps"), "showRegisters": true, "hideSystemGoroutines": true})
	path, loop := source(c.t, "steps/main.go", "// in the loop")
	c.breakpoints(path, loop)
	c.configured()
	stop := c.stoppedFor("breakpoint")
	for _, page := range []dap.StackTraceArguments{{}, {Levels: 1}, {StartFrame: 1, Levels: 1}, {StartFrame: 1}, {StartFrame: 100, Levels: 5}} {
		page.ThreadId = stop.ThreadId
		c.try("stackTrace", page)
	}
	c.try("stackTrace", dap.StackTraceArguments{ThreadId: 9999})
	var stack dap.StackTraceResponseBody
	c.call("stackTrace", dap.StackTraceArguments{ThreadId: stop.ThreadId}, &stack)
	frame := stack.StackFrames[0].Id
	c.try("scopes", map[string]any{"frameId": 9999})
	var scopes dap.ScopesResponseBody
	c.call("scopes", map[string]any{"frameId": frame}, &scopes)
	locals := scopes.Scopes[0].VariablesReference
	var vars dap.VariablesResponseBody
	c.call("variables", map[string]any{"variablesReference": locals}, &vars)
	for _, v := range vars.Variables {
		if v.VariablesReference == 0 {
			continue
		}
		for _, page := range []map[string]any{{"filter": "indexed", "start": 1, "count": 1}, {"filter": "indexed", "start": 2, "count": 10}, {"filter": "named"}, {"start": 0, "count": 2}} {
			page["variablesReference"] = v.VariablesReference
			c.try("variables", page)
		}
		c.try("setVariable", map[string]any{"variablesReference": v.VariablesReference, "name": "[0]", "value": "7"})
		c.try("setVariable", map[string]any{"variablesReference": v.VariablesReference, "name": "Name", "value": `"other"`})
	}
	c.try("variables", map[string]any{"variablesReference": 9999})
	c.try("setVariable", map[string]any{"variablesReference": locals, "name": "i", "value": "nosuch"})
	c.try("setVariable", map[string]any{"variablesReference": 9999, "name": "i", "value": "1"})
	c.try("setExpression", map[string]any{"expression": "i", "value": "1", "frameId": frame})
	for _, context := range []string{"watch", "hover", "repl", "clipboard", "variables", "nosuch", ""} {
		for _, e := range []string{"numbers", "p", "p.X + len(words)", "nosuch", "call double(21)", "dlv help", "1 +", ""} {
			c.try("evaluate", map[string]any{"expression": e, "frameId": frame, "context": context})
		}
	}
	for _, e := range []string{
		"dlv help config", "dlv config", "dlv config showPprofLabels", "dlv config showPprofLabels a", "dlv config substitutePath /a /b",
		"dlv config substitutePath", "dlv config goroutineFilters -w -user", "dlv config nosuch 1", "dlv config -list", "dlv sources steps",
		"call nosuch(1)", "call double(1, 2)", "call p.add(p)",
	} {
		c.try("evaluate", map[string]any{"expression": e, "frameId": frame, "context": "repl"})
	}
	c.try("evaluate", map[string]any{"expression": "p", "frameId": 9999, "context": "watch"})
	var numbers dap.EvaluateResponseBody
	c.call("evaluate", map[string]any{"expression": "p.Name", "frameId": frame, "context": "watch"}, &numbers)
	for _, reference := range []string{numbers.MemoryReference, "0x1", "nonsense"} {
		c.try("readMemory", map[string]any{"memoryReference": reference, "count": 4})
		c.try("readMemory", map[string]any{"memoryReference": reference, "offset": 1, "count": 0})
	}
	var pointer dap.EvaluateResponseBody
	c.call("evaluate", map[string]any{"expression": "&numbers[0]", "frameId": frame, "context": "watch"}, &pointer)
	for _, reference := range []string{pointer.MemoryReference, numbers.MemoryReference, "0x1", "nonsense"} {
		c.try("writeMemory", map[string]any{"memoryReference": reference, "data": base64.StdEncoding.EncodeToString([]byte{9})})
		c.try("writeMemory", map[string]any{"memoryReference": reference, "data": "?"})
	}
	here := stack.StackFrames[0].InstructionPointerReference
	for _, a := range []map[string]any{{"memoryReference": here, "instructionOffset": -2, "instructionCount": 4}, {"memoryReference": here, "offset": 1, "instructionCount": 1}, {"memoryReference": "nonsense", "instructionCount": 1}, {"memoryReference": "0x1", "instructionCount": 2}} {
		c.try("disassemble", a)
	}
	c.try("exceptionInfo", map[string]any{"threadId": stop.ThreadId})
	c.end(true)
}

func holdSteps(c *client) {
	c.start("launch", map[string]any{"mode": "exec", "program": build(c.t, "steps")})
	path, line := source(c.t, "steps/main.go", "return 2 * n")
	c.breakpoints(path, line)
	c.configured()
	stop := c.stoppedFor("breakpoint")
	for _, command := range []string{"stepBack", "reverseContinue"} {
		c.resume(command, stop.ThreadId)
		c.stopped() // where it was, with the error
	}
	for _, command := range []string{"stepOut", "next", "stepIn"} {
		for i, granularity := range []string{"statement", "line", "instruction"} {
			if command == "stepOut" && i > 0 {
				c.resume("continue", stop.ThreadId)
				c.stoppedFor("breakpoint")
			}
			c.call(command, map[string]any{"threadId": stop.ThreadId, "granularity": granularity}, nil)
			c.stopped()
			c.try("stackTrace", dap.StackTraceArguments{ThreadId: stop.ThreadId, Levels: 1})
		}
	}
	c.end(true)
}

func holdRunning(c *client) {
	c.start("launch", map[string]any{"mode": "exec", "program": build(c.t, "target")})
	c.configured()
	for _, command := range []string{"threads", "stackTrace", "scopes", "variables", "next", "stepIn", "stepOut", "stepBack", "reverseContinue", "continue", "exceptionInfo", "readMemory", "writeMemory", "disassemble", "setVariable", "dataBreakpointInfo", "setDataBreakpoints", "terminate", "unknown", "launch", "configurationDone"} {
		c.try(command, map[string]any{})
	}
	for _, e := range []string{"total", "dlv config -list", "call add(1)"} {
		c.try("evaluate", map[string]any{"expression": e, "context": "repl"})
	}
	path, line := source(c.t, "target/main.go", "breakpoint here")
	c.breakpoints(path, line)
	stop := c.stoppedFor("breakpoint")
	c.breakpoints(path)
	c.resume("continue", stop.ThreadId)
	c.try("setFunctionBreakpoints", map[string]any{"breakpoints": []map[string]any{{"name": "main.nosuch"}}})
	c.try("setInstructionBreakpoints", map[string]any{"breakpoints": []map[string]any{}})
	c.try("setExceptionBreakpoints", map[string]any{"filters": []string{}})
	c.call("pause", map[string]any{"threadId": 1}, nil)
	c.stoppedFor("pause")
	c.try("pause", map[string]any{"threadId": 1})
	c.resume("continue", 1)
	c.call("restart", map[string]any{"arguments": map[string]any{"request": "launch", "mode": "exec", "rebuild": false, "args": []string{"3"}}}, nil)
	c.event("initialized", nil)
	c.stoppedFor("pause") // the old process; Delve may tell of it later, and refuses configurationDone until then
	c.configured()
	c.event("terminated", nil)
	c.try("restart", nil)
	c.end(true)
}

// holdNoise sends what is no request.
func holdNoise(c *client) {
	c.start("launch", map[string]any{"mode": "exec", "program": build(c.t, "steps"), "stopOnEntry": true})
	c.configured()
	c.stoppedFor("entry")
	for _, event := range []string{"unknown", "terminated"} {
		c.must(dap.WriteBaseMessage(c.conn, []byte(`{"seq":-1,"type":"event","event":"`+event+`"}`)))
		c.try("threads", nil)
	}
	c.end(true)
}

// disconnects are sessions that end with each of the request's arguments. Of
// those that were attached to, the program must live or not.
func disconnects() map[string]func(*client) {
	sessions := make(map[string]func(*client))
	for _, arguments := range []map[string]any{nil, {"terminateDebuggee": true}, {"terminateDebuggee": false}, {"suspendDebuggee": true}, {"restart": true}} {
		end := func(c *client) {
			c.call("disconnect", arguments, nil)
			c.event("terminated", nil)
			c.Close()
		}
		sessions[fmt.Sprintf("launch and disconnect %v", arguments)] = func(c *client) {
			c.start("launch", map[string]any{"mode": "exec", "program": build(c.t, "steps"), "stopOnEntry": true})
			c.configured()
			c.stoppedFor("entry")
			end(c)
		}
		sessions[fmt.Sprintf("attach and disconnect %v", arguments)] = func(c *client) {
			target := start(c.t, exec.Command(build(c.t, "target")))
			c.attach(target.Process.Pid)
			c.configured()
			end(c)
			if arguments["terminateDebuggee"] == true {
				target.wait(c.t)
			} else {
				mustGoOn(c.t, target)
			}
		}
	}
	return sessions
}

func TestWhatCannotBeReadEndsTheSession(t *testing.T) {
	target := start(t, exec.Command(build(t, "target")))
	adapter, addr, _ := server(t, "listen 127.0.0.1:0")
	c := connect(t, addr, nil)
	c.attach(target.Process.Pid)
	c.configured()
	c.must(dap.WriteBaseMessage(c.conn, []byte("{malformedString}")))
	if _, err := c.Event(c.ctx, nil, "none"); !errors.Is(err, io.EOF) {
		t.Errorf("the connection lives: %v", err)
	}
	adapter.wait(t)
	mustGoOn(t, target)
}
