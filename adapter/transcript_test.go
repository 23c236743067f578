package adapter

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-dap"
	"golang.org/x/sys/unix"

	"github.com/darn-dev/darn/adapter/dapclient"
)

// The same sessions are held with "dlv dap", of the version in go.mod, and
// with the adapter. What the client hears must be the same but for what is
// listed in expected.

// dlv builds Delve's own command.
func dlv(t testing.TB) string {
	t.Helper()
	buildMu.Lock()
	defer buildMu.Unlock()
	if path, ok := built["dlv"]; ok {
		return path
	}
	const module = "github.com/go-delve/delve"
	version, err := exec.Command("go", "list", "-m", "-f", "{{.Version}}", module).Output()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "install", module+"/cmd/dlv@"+strings.TrimSpace(string(version)))
	cmd.Env = append(os.Environ(), "GOBIN="+buildDir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building dlv: %v\n%s", err, out)
	}
	built["dlv"] = filepath.Join(buildDir, "dlv")
	return built["dlv"]
}

// transcript is what a client hears. Responses and events come from different
// goroutines of the session, and so does output: their order among each other
// is not determined.
type transcript struct {
	mu        sync.Mutex
	responses []string
	events    []string
	output    map[string]string
	requests  map[string]bool // the commands that were sent
}

func (r *transcript) hear(sent bool, msg []byte) {
	var m map[string]any
	if json.Unmarshal(msg, &m) != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if sent {
		r.requests[m["command"].(string)] = true
		return
	}
	if m["event"] == "output" {
		body := m["body"].(map[string]any)
		category, _ := body["category"].(string)
		r.output[category] += fmt.Sprint(body["output"])
		return
	}
	delete(m, "seq")
	mask(m, "")
	text, _ := json.Marshal(m)
	line := changing.ReplaceAllString(string(text), "MASKED")
	if m["type"] == "event" {
		r.events = append(r.events, line)
	} else {
		r.responses = append(r.responses, line)
	}
}

// changing matches addresses, ports and process ids.
var changing = regexp.MustCompile(`0x[0-9a-f]{6,}|127\.0\.0\.1:\d+|Process \d+|process \d+`)

// exceptionID returns the number of a breakpoint on an exception, 0 of any other.
func exceptionID(breakpoint any) float64 {
	b, _ := breakpoint.(map[string]any)
	id, _ := b["id"].(float64)
	return min(id, 0)
}

// mask hides what differs from run to run.
func mask(v any, under string) {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			switch key {
			case "systemProcessId", "memoryReference":
				v[key] = "MASKED"
			case "id": // Darn numbers a breakpoint that may be one on a patch's code
				if id, ok := value.(float64); ok && id >= firstPendingID {
					delete(v, key)
				}
			case "threads": // those of the runtime come and go
				v[key] = len(value.([]any)) > 0
			case "threadId": // a pause meets whatever runs, or nothing
				if v["reason"] == "pause" {
					delete(v, key)
				}
			default:
				mask(value, key)
			}
		}
	case []any:
		if under == "breakpoints" { // Delve lists those on exceptions in any order
			slices.SortStableFunc(v, func(a, b any) int { return cmp.Compare(exceptionID(a), exceptionID(b)) })
		}
		for _, value := range v {
			mask(value, under)
		}
	}
}

// added matches the capabilities that are Darn's own.
var added = regexp.MustCompile(`"additionalModuleColumns":\[[^]]*\],|"completionTriggerCharacters":\[[^]]*\],|,"supports(Darn|CompletionsRequest|ModulesRequest)":true`)

// expected are the differences that are meant.
func expected(dlv, darn string) bool {
	switch {
	case strings.Contains(darn, `"command":"initialize"`):
		return added.ReplaceAllString(darn, "") == dlv
	case strings.Contains(darn, `"command":"modules"`), strings.Contains(darn, `"command":"completions"`):
		return strings.Contains(dlv, "Unsupported command")
	case strings.Contains(darn, `"event":"capabilities"`):
		return strings.Replace(darn, `,"supportsRestartRequest":false`, "", 1) == dlv
	}
	return dlv == darn
}

// withoutLastStop leaves out the stop in which a session with a running target
// ends: Delve tells of it before the end or after it, if it gets to it, and Darn only
// if the target is to be ended as well.
func withoutLastStop(events []string) []string {
	end := slices.IndexFunc(events, func(e string) bool { return strings.Contains(e, `"event":"terminated"`) })
	for _, i := range []int{end + 1, end - 1} {
		if end >= 0 && i >= 0 && i < len(events) && isPause(events[i]) {
			return slices.Delete(events, i, i+1)
		}
	}
	return events
}

// stopFirst puts the stop of a program that ran when it was restarted before the
// beginning of the next. Delve has a goroutine that tells of the one, and
// onRestartRequest that tells of the other, and nothing that has one wait for the
// other. Darn tells of them in this order.
func stopFirst(delves []string) []string {
	for i := 1; i < len(delves); i++ {
		if isPause(delves[i]) && strings.Contains(delves[i-1], `"event":"initialized"`) {
			delves[i-1], delves[i] = delves[i], delves[i-1]
		}
	}
	return delves
}

func isPause(event string) bool { return strings.Contains(event, `"reason":"pause"`) }

func compare(t *testing.T, what string, dlv, darn []string) {
	t.Helper()
	for i := range max(len(dlv), len(darn)) {
		a, b := "nothing", "nothing"
		if i < len(dlv) {
			a = dlv[i]
		}
		if i < len(darn) {
			b = darn[i]
		}
		if !expected(a, b) {
			t.Fatalf("%s %d:\ndlv:  %s\ndarn: %s", what, i, a, b)
		}
	}
}

func TestSessionsSoundLikeDelves(t *testing.T) {
	sessions := disconnects()
	for name, hold := range map[string]func(*client){
		"exec":              holdExec,
		"exit":              holdExit,
		"panic":             holdPanic,
		"debug and restart": holdRestart,
		"build error":       holdBuildError,
		"attach":            holdAttach,
		"mistakes":          holdMistakes,
		"noDebug":           holdNoDebug,
		"breakpoints":       holdBreakpoints,
		"variables":         holdVariables,
		"steps":             holdSteps,
		"running":           holdRunning,
		"noise":             holdNoise,
	} {
		sessions[name] = hold
	}
	compared := make(map[string]bool)
	for _, name := range slices.Sorted(maps.Keys(sessions)) {
		t.Run(name, func(t *testing.T) {
			delve := held(t, exec.Command(dlv(t), "dap", "--check-go-version=true"), sessions[name])
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), playAdapter+"=listen 127.0.0.1:0")
			darn := held(t, cmd, sessions[name])
			compare(t, "response", delve.responses, darn.responses)
			compare(t, "event", stopFirst(withoutLastStop(delve.events)), withoutLastStop(darn.events))
			for _, category := range []string{"stdout", "stderr", "console", "important"} {
				compare(t, "output to "+category, lines(delve.output[category]), lines(darn.output[category]))
			}
			if len(darn.responses) == 0 {
				t.Error("nothing was said")
			}
			maps.Copy(compared, darn.requests)
		})
	}
	if t.Failed() {
		return // a session that has failed may not have come to all of its requests
	}
	t.Run("with every request", func(t *testing.T) {
		for command, method := range delveRequests(t) {
			if !compared[command] {
				t.Errorf("no session has the request %s, which Delve's test client can make (%s)", command, method)
			}
		}
	})
}

func lines(s string) []string {
	return strings.Split(changing.ReplaceAllString(s, "MASKED"), "\n")
}

// held holds a session with a server.
func held(t *testing.T, cmd *exec.Cmd, hold func(*client)) *transcript {
	t.Helper()
	server, addr, _ := listening(t, cmd)
	r := &transcript{output: make(map[string]string), requests: make(map[string]bool)}
	hold(connect(t, addr, r.hear))
	server.wait(t)
	r.mu.Lock()
	defer r.mu.Unlock()
	return r
}

// end ends a session and hears it out.
func (c *client) end(terminate bool) {
	c.t.Helper()
	c.call("disconnect", dap.DisconnectArguments{TerminateDebuggee: terminate}, nil)
	c.event("terminated", nil)
	c.Close()
}

// try makes a request that may fail: the transcript has the answer.
func (c *client) try(command string, arguments any) {
	c.t.Helper()
	err := c.Call(c.ctx, command, arguments, nil)
	if _, ok := err.(*dapclient.Error); !ok {
		c.must(err)
	}
}

func holdExec(c *client) {
	c.start("launch", map[string]any{"mode": "exec", "program": build(c.t, "steps"), "outputMode": "remote", "showGlobalVariables": true})
	path, loop := source(c.t, "steps/main.go", "// in the loop")
	_, end := source(c.t, "steps/main.go", "// end")
	c.breakpoints(path, loop, end, 1, 100000)
	c.try("setFunctionBreakpoints", map[string]any{"breakpoints": []map[string]any{{"name": "main.point.add"}, {"name": "nowhere.f"}}})
	c.try("setExceptionBreakpoints", map[string]any{"filters": []string{"unrecovered-panic"}})
	c.configured()
	stop := c.stoppedFor("breakpoint")
	thread := map[string]any{"threadId": stop.ThreadId}
	c.try("threads", nil)
	var stack dap.StackTraceResponseBody
	c.call("stackTrace", dap.StackTraceArguments{ThreadId: stop.ThreadId, Levels: 20}, &stack)
	frame := stack.StackFrames[0].Id
	var scopes dap.ScopesResponseBody
	c.call("scopes", map[string]any{"frameId": frame}, &scopes)
	for _, s := range scopes.Scopes[:1] {
		var vars dap.VariablesResponseBody
		c.call("variables", map[string]any{"variablesReference": s.VariablesReference}, &vars)
		for _, v := range vars.Variables {
			if v.VariablesReference > 0 {
				c.try("variables", map[string]any{"variablesReference": v.VariablesReference})
			}
		}
		c.try("setVariable", map[string]any{"variablesReference": s.VariablesReference, "name": "i", "value": "1"})
	}
	for _, e := range []string{"numbers", "p", "p.X + 1", "words[\"one\"]", "nosuch", "call double(21)", "dlv config -list", "dlv help", "dlv nosuch", "darn", "darn + 1"} {
		c.try("evaluate", map[string]any{"expression": e, "frameId": frame, "context": "repl"})
	}
	c.try("evaluate", map[string]any{"expression": "darn list", "frameId": frame, "context": "watch"})
	c.try("disassemble", map[string]any{"memoryReference": stack.StackFrames[0].InstructionPointerReference, "instructionCount": 5})
	c.resume("next", stop.ThreadId)
	c.stoppedFor("step")
	c.resume("continue", stop.ThreadId)
	c.stoppedFor("breakpoint")
	c.resume("stepIn", stop.ThreadId)
	c.stoppedFor("step")
	c.resume("stepOut", stop.ThreadId)
	c.stoppedFor("step")
	c.call("next", map[string]any{"threadId": stop.ThreadId, "granularity": "instruction"}, nil)
	c.stoppedFor("step")
	c.breakpoints(path, end)
	c.resume("continue", stop.ThreadId)
	c.stoppedFor("function breakpoint")
	c.try("exceptionInfo", thread)
	c.resume("continue", stop.ThreadId)
	c.stoppedFor("breakpoint")
	c.end(true)
}

func holdExit(c *client) {
	c.start("launch", map[string]any{"mode": "exec", "program": build(c.t, "steps"), "stopOnEntry": true, "outputMode": "remote", "args": []string{"a"}})
	c.configured()
	c.stoppedFor("entry")
	c.resume("continue", 1)
	c.event("terminated", nil)
	c.try("threads", nil)
	c.end(false)
}

func holdPanic(c *client) {
	c.start("launch", map[string]any{"mode": "exec", "program": build(c.t, "panics")})
	c.configured()
	stop := c.stoppedFor("exception")
	c.try("exceptionInfo", map[string]any{"threadId": stop.ThreadId})
	c.end(true)
}

func holdRestart(c *client) {
	folder, err := filepath.Abs("testdata")
	c.must(err)
	c.start("launch", map[string]any{"mode": "debug", "program": "./steps", "dlvCwd": folder, "output": filepath.Join(buildDir, "__debug"), "stopOnEntry": true})
	path, line := source(c.t, "steps/main.go", "// in the loop")
	c.breakpoints(path, line)
	c.configured()
	c.stoppedFor("entry")
	c.resume("continue", 1)
	c.stoppedFor("breakpoint")
	c.call("restart", nil, nil)
	c.event("initialized", nil)
	c.breakpoints(path, line)
	c.configured()
	c.stoppedFor("entry")
	c.resume("continue", 1)
	c.stoppedFor("breakpoint")
	c.end(true)
}

func holdBuildError(c *client) {
	folder, err := filepath.Abs("testdata")
	c.must(err)
	_, err = c.Initialize(c.ctx)
	c.must(err)
	c.try("launch", map[string]any{"mode": "debug", "program": "./broken", "dlvCwd": folder, "output": filepath.Join(buildDir, "__debug")})
	c.end(false)
}

func holdAttach(c *client) {
	target := start(c.t, exec.Command(build(c.t, "target")))
	c.attach(target.Process.Pid)
	path, line := source(c.t, "target/main.go", "breakpoint here")
	c.breakpoints(path, line)
	c.configured()
	stop := c.stoppedFor("breakpoint")
	c.try("evaluate", map[string]any{"expression": "n", "context": "watch"})
	c.resume("next", stop.ThreadId)
	c.stoppedFor("step")
	c.try("attach", map[string]any{"processId": target.Process.Pid})
	c.end(false)
}

func holdMistakes(c *client) {
	c.try("threads", nil)
	c.try("launch", map[string]any{"mode": "exec"})
	c.try("launch", map[string]any{"mode": "nosuch", "program": "x"})
	c.try("attach", map[string]any{"mode": "local"})
	c.try("attach", map[string]any{"mode": "remote"})
	c.try("launch", map[string]any{"mode": "exec", "program": "/no/such/program"})
	_, err := c.Initialize(c.ctx)
	c.must(err)
	c.start("launch", map[string]any{"mode": "exec", "program": build(c.t, "steps"), "stopOnEntry": true})
	c.configured()
	c.stoppedFor("entry")
	for _, command := range []string{"terminate", "source", "modules", "loadedSources", "cancel", "completions", "goto", "gotoTargets", "restartFrame", "stepInTargets", "terminateThreads", "breakpointLocations", "setExpression", "nosuch"} {
		c.try(command, map[string]any{})
	}
	c.try("setBreakpoints", map[string]any{"source": map[string]any{}, "breakpoints": []int{}})
	c.end(true)
}

// The program ends when all that it wrote was heard: Delve waits for its end
// while it reads, with exec.Cmd.Wait, which closes what was not read yet.
func holdNoDebug(c *client) {
	stdin := filepath.Join(c.t.TempDir(), "stdin")
	c.must(unix.Mkfifo(stdin, 0o600))
	held, err := os.OpenFile(stdin, os.O_RDWR, 0)
	c.must(err)
	_, err = c.Initialize(c.ctx)
	c.must(err)
	c.call("launch", map[string]any{"mode": "exec", "program": build(c.t, "target"), "args": []string{"5", "7", "wait"}, "stdinFrom": stdin, "noDebug": true, "outputMode": "remote"}, nil)
	for heard := ""; !strings.Contains(heard, "bye\n") || !strings.Contains(heard, "to standard error\n"); {
		var body dap.OutputEventBody
		c.event("output", &body)
		heard += body.Output
	}
	c.must(held.Close())
	c.event("terminated", nil)
	c.try("threads", nil)
	c.end(true)
}
