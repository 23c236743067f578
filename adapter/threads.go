package adapter

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-delve/delve/pkg/proc"
	"github.com/google/go-dap"
	"github.com/ianlancetaylor/demangle"
	"golang.org/x/sys/unix"
)

// A target without goroutines, as one of C, has threads only, and Delve's session
// knows none: it lists a dummy, and all that it does for a goroutine it does for
// number 0, which stands for Delve's current thread. So the client is shown the
// real threads, and what it asks of one, or of a frame or a variable of one, the
// session is asked of 0 when that thread was just made the current one.
//
// That happens in the write of the session's answer to a request of the proxy's
// own, which goes to it together with the client's and right before: nothing can
// come in between, and the session does nothing while it writes.

// switcher is a request that no session of Delve's does anything for.
const switcher = "loadedSources"

// threads are those of a target without goroutines. Of others it does nothing.
type threads struct {
	p *proxy

	mu     sync.Mutex // guards what follows
	native bool       // the target has no goroutines
	pid    int
	// stopped is the thread that the last stop was reported of: what names no
	// frame is evaluated there.
	stopped int
	// exception is the body of the last stop, if it was one.
	exception dap.StoppedEventBody
	gone      *dap.ExitedEventBody // how a target has ended of which hasDied has seen it, if that is known
	lost      bool                 // it has
	// known are the threads that the client knows of.
	known []int
	// wanted is the thread that a request to pause has named.
	wanted int
	// Where the session's frames and variables are, since the last stop.
	frames, variables map[int]scope
	// into tells that the client steps into a call.
	into bool
	// reported is a stop at the entry of a function of which the client is told when
	// its body is reached, which the session does unseen.
	reported []byte
	symbols  symbols
	images   cImages           // guarded by the lock of the target
	watched  map[string]string // the session's data IDs by the client's
	// asked are the requests of which the session was asked of a thread.
	asked map[int]*threadRequest
}

// scope is what an expression is evaluated in: a frame of a thread.
type scope struct {
	thread int
	frame  int // 0 for the top one
}

// threadRequest is a request of a thread that is on its way.
type threadRequest struct {
	scope
	start int   // the first frame that is wanted
	err   error // the thread could not be made the current one
}

func (t *threads) init(p *proxy) {
	t.p, t.asked = p, make(map[int]*threadRequest)
	t.forget()
}

// forget forgets the frames and variables of a stop, as the session does. Called
// with t.mu held.
func (t *threads) forget() {
	t.frames, t.variables = make(map[int]scope), make(map[int]scope)
	t.exception = dap.StoppedEventBody{}
}

// begin finds out whether a new target has goroutines. It is called in the
// session's goroutine without p.mu.
func (t *threads) begin(group *proc.TargetGroup) {
	target := group.Selected
	t.mu.Lock()
	defer t.mu.Unlock()
	t.native = len(target.BinInfo().LookupFunc()["runtime.main"]) == 0
	t.images, t.symbols, t.watched = cImages{}, symbols{}, make(map[string]string)
	if t.native {
		t.images.update(target)
	}
	t.pid, t.stopped = target.Pid(), target.CurrentThread().ThreadID()
	t.known, t.gone, t.lost = tracedThreads(t.pid), nil, false
	t.forget()
}

// are tells whether the target has threads only.
func (t *threads) are() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.native
}

// list answers a request for the threads, in every state that the target is in.
// It returns whether it does.
func (t *threads) list(h *header) bool {
	if !t.are() {
		return false
	}
	t.p.mu.Lock()
	alive := t.p.ready() == nil
	t.p.mu.Unlock()
	if !alive {
		return false
	}
	t.mu.Lock()
	pid := t.pid
	t.mu.Unlock()
	body := dap.ThreadsResponseBody{Threads: []dap.Thread{}}
	now := tracedThreads(pid)
	for _, id := range now {
		body.Threads = append(body.Threads, dap.Thread{Id: id, Name: threadName(pid, id)})
	}
	t.p.respond(h, body)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pid == pid {
		t.known = now
	}
	return true
}

// tellThreads tells the client which threads there are since it was last told, and
// which are no more. Called with t.mu held.
func (t *threads) tellThreads() {
	now := tracedThreads(t.pid)
	tell := func(reason string, ids, except []int) {
		for _, id := range ids {
			if !slices.Contains(except, id) {
				t.p.event("thread", dap.ThreadEventBody{Reason: reason, ThreadId: id})
			}
		}
	}
	tell("exited", t.known, now)
	tell("started", now, t.known)
	t.known = now
}

// tracedThreads returns the threads of a process that are traced: a helper of Darn's
// in the target is not, and neither is it the program's.
func tracedThreads(pid int) (ids []int) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/[0-9]*", pid))
	for _, task := range tasks {
		id, err := strconv.Atoi(filepath.Base(task))
		if err == nil && isTraced(pid, id) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// isTraced tells whether a thread lives and a debugger has it.
func isTraced(pid, id int) bool {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/status", pid, id))
	traced := false
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch {
		case key == "State" && strings.ContainsAny(value[:1], "ZX"):
			return false
		case key == "TracerPid":
			traced = value != "0"
		}
	}
	return traced
}

// threadName returns what a thread is called.
func threadName(pid, id int) string {
	comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/comm", pid, id))
	return fmt.Sprintf("%s (%d)", strings.TrimSuffix(string(comm), "\n"), id)
}

// of returns which thread a request is of; ok is false if it is of none.
func (t *threads) of(h *header) (at scope, ok bool) {
	var a struct {
		ThreadID           int `json:"threadId"`
		FrameID            int `json:"frameId"`
		VariablesReference int `json:"variablesReference"`
	}
	_ = json.Unmarshal(h.Arguments, &a)
	t.mu.Lock()
	defer t.mu.Unlock()
	switch h.Command {
	case "stackTrace", "next", "stepIn", "stepOut":
		if a.ThreadID <= 0 {
			a.ThreadID = t.stopped
		}
		return scope{thread: a.ThreadID}, true
	case "scopes", "evaluate", "variables", "setVariable", "dataBreakpointInfo":
		if at, ok = t.frames[a.FrameID]; !ok {
			if at, ok = t.variables[a.VariablesReference]; !ok {
				at.thread = t.stopped
			}
		}
		return at, true
	}
	return at, false
}

// prepare looks at a request of the client's before it goes to the session. It
// returns the message for that, and the thread that is to be the current one, 0
// is false if the request is answered.
func (t *threads) prepare(h *header, msg []byte) (_ []byte, at scope, ok bool) {
	if !t.are() {
		return msg, at, true
	}
	msg = edit(msg, "arguments", spellInGo)
	t.p.mu.Lock()
	dbg, stands := t.p.debugger, t.p.phase == stopped
	t.p.mu.Unlock()
	var a struct {
		ThreadID   int    `json:"threadId"`
		Expression string `json:"expression"`
	}
	_ = json.Unmarshal(h.Arguments, &a)
	if h.Command == "pause" {
		t.mu.Lock()
		t.wanted = a.ThreadID
		t.mu.Unlock()
	}
	if setRequest(h.Command) && bytes.Contains(h.Arguments, []byte(`"condition"`)) {
		ctx, cancel := context.WithTimeout(context.Background(), holdPatience)
		_, _ = t.p.withTarget(ctx, func(group *proc.TargetGroup) error { // without a target there is nothing to size
			t.images.sizeArrays(group.Selected.BinInfo())
			return nil
		})
		cancel()
	}
	if !stands {
		return msg, at, true // the session says so
	}
	switch h.Command {
	case "stepIn":
		var s dap.StepInArguments
		_ = json.Unmarshal(h.Arguments, &s)
		t.mu.Lock()
		t.into = s.Granularity != "instruction"
		t.mu.Unlock()
	case "continue", "next", "stepOut":
		t.mu.Lock()
		t.into = false
		t.mu.Unlock()
	case "setDataBreakpoints":
		group, unlock := dbg.LockTargetGroup()
		msg = t.watchAddresses(group.Selected, msg)
		unlock()
	case "exceptionInfo":
		t.explain(h, a.ThreadID)
		return nil, at, false
	case "evaluate":
		if strings.HasPrefix(strings.TrimSpace(a.Expression), "call ") {
			t.p.refuse(h, errNoCalls)
			return nil, at, false
		}
	}
	if at, ok = t.of(h); !ok {
		return msg, at, true
	}
	// The threads stay the same until the client has the target go on.
	group, unlock := dbg.LockTargetGroup()
	_, found := group.Selected.FindThread(at.thread)
	unlock()
	if !found {
		t.p.refuse(h, fmt.Errorf("the program has no thread %d: it has ended, perhaps", at.thread))
		return nil, at, false
	}
	if a.ThreadID != 0 {
		msg = edit(msg, "arguments", func(args []byte) []byte {
			return edit(args, "threadId", func([]byte) []byte { return []byte("0") })
		})
	}
	return msg, at, true
}

// errNoCalls is why nothing can be called in a target without goroutines.
var errNoCalls = errors.New("a function of C can't be called: Delve has Go's runtime make its calls, and the program has none")

// spellInGo gives expressions in the arguments of a request the spelling that Delve
// knows, which has no arrow.
func spellInGo(arguments []byte) []byte {
	spell := func(raw []byte) []byte {
		var text string
		if json.Unmarshal(raw, &text) != nil || strings.ContainsAny(text, "'\"") {
			return raw // it may be in a string
		}
		return marshal(strings.ReplaceAll(text, "->", "."))
	}
	arguments = edit(arguments, "expression", spell)
	return edit(arguments, "breakpoints", func(list []byte) []byte {
		var breakpoints []json.RawMessage
		if json.Unmarshal(list, &breakpoints) != nil {
			return list
		}
		for i, b := range breakpoints {
			breakpoints[i] = edit(edit(b, "condition", spell), "logMessage", spell)
		}
		return marshal(breakpoints)
	})
}

// switchTo has the session make a thread the current one before it comes to the
// request that h begins, which must be sent next. Called with p.mu held, while the
// target is stopped for the client.
func (t *threads) switchTo(at scope, h *header) {
	var a dap.StackTraceArguments
	_ = json.Unmarshal(h.Arguments, &a)
	asked := &threadRequest{scope: at, start: max(a.StartFrame, 0)}
	t.mu.Lock()
	t.asked[h.Seq] = asked
	t.mu.Unlock()
	t.ask(asked)
}

// ask makes the request that makes a thread the current one. Called with p.mu held.
func (t *threads) ask(asked *threadRequest) {
	dbg := t.p.debugger
	t.p.ask(switcher, nil, func(*header) {
		group, unlock := dbg.LockTargetGroup()
		defer unlock()
		t.images.sizeArrays(group.Selected.BinInfo())
		asked.err = group.Selected.SwitchThread(asked.thread)
	})
}

// answer passes a message of the session's to the client. It is called with p.mu
// held.
func (t *threads) answer(h *header, msg []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.native {
		t.p.pass(msg)
		return
	}
	if h.Event == "continued" && t.reported != nil {
		return
	}
	if h.Event == "continued" {
		// Of a step: it comes before the answer, and there is no other on its way.
		for _, asked := range t.asked {
			msg = edit(msg, "body", func(body []byte) []byte {
				return edit(body, "threadId", func([]byte) []byte { return marshal(asked.thread) })
			})
		}
	}
	if h.Type == "response" && h.Command == "disconnect" && !h.Success && t.lost {
		t.p.respond(&header{Seq: h.RequestSeq, Command: h.Command}, nil) // there is nothing to let go of
		return
	}
	asked := t.asked[h.RequestSeq]
	if h.Type != "response" || asked == nil {
		t.p.pass(msg)
		return
	}
	delete(t.asked, h.RequestSeq)
	if asked.err != nil && h.Success {
		t.p.refuse(&header{Seq: h.RequestSeq, Command: h.Command}, asked.err)
		return
	}
	if !h.Success {
		msg = bytes.Replace(msg, []byte("function calls not supported by this version of Go"), []byte("only a program with Go's runtime can be made to store a string"), 1)
		t.p.pass(msg)
		return
	}
	switch h.Command {
	case "stackTrace":
		msg = edit(msg, "body", func(body []byte) []byte { return t.showFrames(body, asked) })
	case "variables":
		var b dap.VariablesResponseBody
		_ = json.Unmarshal(h.Body, &b)
		for _, v := range b.Variables {
			t.variables[v.VariablesReference] = asked.scope
		}
		if slices.ContainsFunc(b.Variables, unloadedVariable) {
			t.load(asked.scope, b.Variables, msg)
			return
		}
		if len(b.Variables) > 0 {
			msg = showVariables(msg, b.Variables)
		}
	case "dataBreakpointInfo":
		msg = ofThread(msg, asked.thread)
	default:
		if h.Command == "evaluate" {
			msg = edit(msg, "body", func(body []byte) []byte { return edit(body, "result", shownValue) })
		}
		var b struct {
			Scopes             []dap.Scope `json:"scopes"`
			VariablesReference int         `json:"variablesReference"`
		}
		_ = json.Unmarshal(h.Body, &b)
		t.variables[b.VariablesReference] = asked.scope
		for _, s := range b.Scopes {
			t.variables[s.VariablesReference] = asked.scope
		}
	}
	t.p.pass(msg)
}

// The session loads what is nested deep by the name of its type, which it does not
// find with the names of C.
const failedToLoad = " - FAILED TO LOAD: "

// textArray matches an array of characters, as far as it is shown.
var textArray = regexp.MustCompile(`^\[\d+\](?:const )?(?:unsigned |signed )?char \[([-\d,]*)`)

// showValue returns a value as a person wants to see it: characters as the text
// that they are, and without what Delve could not load.
func showValue(value string) string {
	value, _, _ = strings.Cut(value, failedToLoad)
	m := textArray.FindStringSubmatch(value)
	if m == nil {
		return value
	}
	var text []byte
	for number := range strings.SplitSeq(m[1], ",") {
		n, err := strconv.Atoi(number)
		if err != nil || n == 0 {
			break
		}
		text = append(text, byte(n))
	}
	return fmt.Sprintf("%q %s", text, value)
}

// shownValue is showValue of a value in JSON.
func shownValue(raw []byte) []byte {
	var value string
	if json.Unmarshal(raw, &value) != nil {
		return raw
	}
	return marshal(showValue(value))
}

func unloadedVariable(v dap.Variable) bool { return strings.Contains(v.Value, failedToLoad) }

// loadPatience is for how long the answer to a request for variables waits for
// those that are loaded apart.
const loadPatience = 5 * time.Second

// load passes variables to the client when those that the session could not load
// were evaluated, each by its expression. Called with p.mu and t.mu held.
func (t *threads) load(at scope, variables []dap.Variable, msg []byte) {
	type loaded struct {
		i      int
		answer *header
	}
	answers := make(chan loaded, len(variables))
	n := 0
	current := &threadRequest{scope: at}
	t.ask(current)
	for i := range variables {
		if unloadedVariable(variables[i]) && variables[i].EvaluateName != "" {
			n++
			t.p.ask("evaluate", dap.EvaluateArguments{Expression: variables[i].EvaluateName, FrameId: at.frame, Context: "watch"},
				func(h *header) { answers <- loaded{i, h} })
		}
	}
	t.p.client.put(func() []byte {
		timeout := time.After(loadPatience)
		for ; n > 0; n-- {
			select {
			case l := <-answers:
				var b dap.EvaluateResponseBody
				if !l.answer.Success || json.Unmarshal(l.answer.Body, &b) != nil || current.err != nil {
					continue
				}
				v := &variables[l.i]
				v.Value, v.VariablesReference, v.IndexedVariables, v.NamedVariables = b.Result, b.VariablesReference, b.IndexedVariables, b.NamedVariables
				t.mu.Lock()
				t.variables[b.VariablesReference] = at
				t.mu.Unlock()
			case <-timeout:
				n = 1
			case <-t.p.done:
				n = 1
			}
		}
		return showVariables(msg, variables)
	})
}

// showVariables puts variables into the answer to a request for them.
func showVariables(msg []byte, variables []dap.Variable) []byte {
	for i := range variables {
		variables[i].Value = showValue(variables[i].Value)
	}
	return edit(msg, "body", func(body []byte) []byte {
		return edit(body, "variables", func([]byte) []byte { return marshal(variables) })
	})
}

// cPrefix is what Delve puts before the names of C's functions, as Go programs
// write them.
const cPrefix = "C."

// showFrames gives the functions in the answer to a request for a stack the names
// that they have in C, those too that Delve knows nothing of. Called with t.mu held.
func (t *threads) showFrames(body []byte, asked *threadRequest) []byte {
	code := t.symbols.code(t.pid)
	end := -1
	body = edit(body, "stackFrames", func(list []byte) []byte {
		var frames []json.RawMessage
		if json.Unmarshal(list, &frames) != nil {
			return list
		}
		named := []json.RawMessage{} // not nil
		for i, raw := range frames {
			var f dap.StackFrame
			_ = json.Unmarshal(raw, &f)
			t.frames[f.Id] = scope{thread: asked.thread, frame: f.Id}
			pc, _ := strconv.ParseUint(f.InstructionPointerReference, 0, 64)
			name, known := code.name(pc)
			if !known && asked.start+i > 0 {
				// No code, no caller: it goes on behind the first function.
				end = asked.start + len(named)
				break
			}
			if rest, ok := strings.CutPrefix(f.Name, "???"); ok {
				f.Name = name + rest
				f.Source, f.Line, f.PresentationHint = nil, 0, "subtle"
				raw = marshal(f)
			} else {
				raw = edit(raw, "name", func([]byte) []byte { return marshal(cFrame(f.Name, name)) })
			}
			named = append(named, raw)
		}
		return marshal(named)
	})
	if end >= 0 {
		body = edit(body, "totalFrames", func([]byte) []byte { return marshal(end) })
	}
	return body
}

// cFrame returns what a function is called that has a name of Delve's, perhaps marked
// as old, and one in the symbol table. Of a function of C++ Delve knows the last part
// of the name, or nothing.
func cFrame(delve, symbol string) string {
	name, old := strings.CutSuffix(strings.TrimPrefix(delve, cPrefix), oldSuffix)
	if mangled, _, _ := strings.Cut(symbol, " "); strings.HasPrefix(mangled, "_Z") {
		if full, err := demangle.ToString(mangled, demangle.NoParams); err == nil {
			name = full
		}
	} else if name == "" {
		name = mangled
	}
	if old {
		name += oldSuffix
	}
	return name
}

// explain answers a request for what the program stopped for.
func (t *threads) explain(h *header, thread int) {
	t.mu.Lock()
	e := t.exception
	t.mu.Unlock()
	if e.Reason == "" || thread != 0 && thread != e.ThreadId {
		t.p.refuse(h, fmt.Errorf("thread %d did not stop for an error", thread))
		return
	}
	t.p.respond(h, dap.ExceptionInfoResponseBody{
		ExceptionId: e.Description, Description: e.Text, BreakMode: "always",
	})
}

// exited says by which signal the target was ended: the session lets signals pass, and
// shows them in the exit code only. It is called with the session's event, and with
// p.mu held.
func (t *threads) exited(h *header) {
	var body dap.ExitedEventBody
	_ = json.Unmarshal(h.Body, &body)
	if h.Event != "exited" || body.ExitCode >= 0 || t.p.quiescing || !t.are() {
		return
	}
	signal := unix.Signal(-body.ExitCode)
	t.p.event("output", dap.OutputEventBody{Category: "stderr",
		Output: fmt.Sprintf("Darn: the program was killed by %s (%v)\n", unix.SignalName(signal), signal)})
}

// atStop gives a stopped event the thread that it is about, and names those that
// have come to a breakpoint at the same moment: when the target goes on they do, and
// nothing is said of them. A stop at the entry of a function is not shown: then it
// returns the command too with which the session is to go on. It is called
// in the session's goroutine without p.mu.
func (t *threads) atStop(msg []byte) (_ []byte, onward string) {
	if !t.are() {
		return msg, ""
	}
	t.p.mu.Lock()
	dbg, asked, met, quiescing := t.p.debugger, t.p.pausing, t.p.coincided, t.p.quiescing
	t.p.mu.Unlock()
	if dbg == nil {
		return msg, ""
	}
	if !quiescing && t.hasDied(msg) {
		return msg, hasEnded
	}
	group, unlock := dbg.LockTargetGroup()
	defer unlock()
	if ok, _ := group.Valid(); !ok {
		return msg, ""
	}
	target := group.Selected
	t.images.update(target)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forget()
	t.stopped = target.CurrentThread().ThreadID()
	wanted := t.wanted
	t.wanted = 0
	reported := t.reported
	t.reported = nil
	var body dap.StoppedEventBody
	_ = json.Unmarshal(member(msg, "body"), &body)
	if reported != nil && body.Reason == "step" {
		return reported, ""
	}
	if body.Reason == "pause" && !asked {
		t.unmask(target, &body, met)
	}
	if onward = t.atEntry(target, body.Reason); onward != "" && !asked && !group.HasSteppingBreakpoints() {
		body.ThreadId = t.stopped
		msg = edit(msg, "body", func([]byte) []byte { return marshal(body) })
		if onward == "next" {
			t.reported = msg
		}
		return msg, onward
	}
	if !quiescing {
		t.tellThreads()
	}
	return edit(msg, "body", func(old []byte) []byte {
		if _, ok := target.FindThread(wanted); ok && body.Reason == "pause" && asked {
			t.stopped = wanted
		}
		body.ThreadId = t.stopped
		if body.Reason == "exception" {
			t.exception = body
		}
		for _, th := range target.ThreadList() {
			bp := th.Breakpoint()
			if th.ThreadID() == t.stopped || bp.Breakpoint == nil || !bp.Active || bp.Logical == nil ||
				bp.Logical.Tracepoint || isPlace(bp.Logical) || bp.LogicalID() <= 0 {
				continue
			}
			if body.Text != "" {
				body.Text += "; "
			}
			body.Text += fmt.Sprintf("thread %s is at a breakpoint too, line %d", threadName(t.pid, th.ThreadID()), bp.Line)
			if !slices.Contains(body.HitBreakpointIds, bp.LogicalID()) {
				body.HitBreakpointIds = append(body.HitBreakpointIds, bp.LogicalID())
			}
		}
		return marshal(body)
	}), ""
}

// hasEnded is in the place of a command if the target can't go on.
const hasEnded = "end"

// deathPatience is for how long a process may take to die that has lost a thread.
const deathPatience = 500 * time.Millisecond

// hasDied tells whether the session reports an error for the end of the target: that
// is how one looks to it that ends while it makes a thread, and it never finds out.
func (t *threads) hasDied(event []byte) bool {
	var body dap.StoppedEventBody
	_ = json.Unmarshal(member(event, "body"), &body)
	if body.Reason != "exception" || body.Description != "runtime error" {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for end := time.Now().Add(deathPatience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", t.pid))
		// The state comes after the name, which may hold anything.
		_, rest, _ := bytes.Cut(stat[bytes.LastIndexByte(stat, ')')+1:], []byte(" "))
		if err != nil || bytes.HasPrefix(rest, []byte("Z")) {
			t.gone, t.lost = nil, true
			// The last number is the status, of who may look into the process.
			if fields := bytes.Fields(rest); len(fields) > 0 {
				n, _ := strconv.Atoi(string(fields[len(fields)-1]))
				t.gone = &dap.ExitedEventBody{ExitCode: unix.WaitStatus(n).ExitStatus()}
				if status := unix.WaitStatus(n); status.Signaled() {
					t.gone.ExitCode = -int(status.Signal())
				}
			}
			return true
		}
	}
	return false
}

// end tells the client of the end of a target that the session has not seen. Called
// with p.mu held.
func (t *threads) end() {
	t.mu.Lock()
	gone := t.gone
	t.mu.Unlock()
	p := t.p
	p.phase, p.stepping = ended, false
	p.broadcast()
	if gone != nil {
		h := &header{Event: "exited", Body: marshal(gone)}
		t.exited(h)
		p.patches.vigil.exited(h)
		p.event("exited", gone)
	} else {
		p.event("output", dap.OutputEventBody{Category: "stderr",
			Output: "Darn: the program has ended while it was making a thread; how is not known\n"})
	}
	p.event("terminated", dap.TerminatedEventBody{})
}

// unmask gives a stop in a function that a halt of Darn's has met its true reason, if
// it is not to be shown: the session takes it for a pause. met is the reason if the
// halt has seen it, and perhaps moved the breakpoint away.
func (t *threads) unmask(target *proc.Target, body *dap.StoppedEventBody, met *stopReason) {
	var reasons []*stopReason
	if met != nil {
		reasons = append(reasons, met)
	}
	for _, th := range target.ThreadList() {
		if bp := th.Breakpoint(); bp.Breakpoint != nil && bp.Active && bp.Logical != nil && bp.LogicalID() > 0 && !isPlace(bp.Logical) {
			r := reasonOf(bp)
			r.thread = int64(th.ThreadID())
			reasons = append(reasons, r)
		}
	}
	now := target.CurrentThread().ThreadID()
	for _, r := range reasons {
		if target.SwitchThread(int(r.thread)) == nil && t.atEntry(target, r.reason) != "" {
			t.stopped, body.Reason, body.HitBreakpointIds = int(r.thread), r.reason, r.breakpoints
			return
		}
	}
	_ = target.SwitchThread(now) // where it was
}

// atEntry tells how the session is to go on when the current thread has stopped at
// the entry of a function, before its body: by a step, or if the entry leads to the
// new code of a patch by continuing, which has the breakpoint too. It is "" if the
// thread is elsewhere, or the client wants to be there. Called with t.mu held, and
// the target locked.
func (t *threads) atEntry(target *proc.Target, reason string) string {
	if reason != "function breakpoint" && !(reason == "step" && t.into) {
		return ""
	}
	regs, err := target.CurrentThread().Registers()
	if err != nil {
		return ""
	}
	fn := target.BinInfo().PCToFunc(regs.PC())
	switch {
	case fn == nil || fn.Entry != regs.PC() || begins(target, fn.Entry) == fn.Entry:
		return ""
	case t.p.patches.old.Load().Holds(fn.Entry+1, fn.Name):
		return "continue"
	}
	return "next"
}

// goOn has the session go on after a stop that is not shown to the client, unless it
// refuses. Called with p.mu held.
func (t *threads) goOn(command string, event []byte) {
	p := t.p
	p.stepping, p.coincided = command == "next", nil
	p.broadcast()
	p.ask(command, dap.NextArguments{}, func(h *header) {
		if h.Success {
			return
		}
		t.mu.Lock()
		t.reported = nil
		t.mu.Unlock()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.stoppedFor("step")
		p.pass(event)
		p.passBegun()
	})
}

// logged gives a message that a logpoint has written the form that it has without
// goroutines.
func (t *threads) logged(msg []byte) []byte {
	if !t.are() {
		return msg
	}
	return edit(msg, "body", func(body []byte) []byte {
		return edit(body, "output", func(raw []byte) []byte {
			var text string
			_ = json.Unmarshal(raw, &text)
			if rest, ok := strings.CutPrefix(text, "> [Go 0]: "); ok {
				return marshal("> " + rest)
			}
			return raw
		})
	})
}

// told notes of which thread the client is told that it has stopped.
func (t *threads) told(event []byte) []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	if id := stoppedThread(event); t.native && id != 0 {
		t.stopped = id
	}
	return event
}

// stoppedThread returns the thread that a stopped event is about.
func stoppedThread(event []byte) int {
	var body dap.StoppedEventBody
	_ = json.Unmarshal(member(event, "body"), &body)
	return body.ThreadId
}

// idOf returns the id by which the client knows who runs on a thread: a goroutine,
// or in a target that has none the thread itself; 0 if it is neither.
func (t *threads) idOf(th proc.Thread) int64 {
	if t.are() {
		return int64(th.ThreadID())
	}
	if g, err := proc.GetG(th); err == nil && g != nil {
		return g.ID
	}
	return 0
}

// isCondition returns an expression of Delve's that holds for whom the client
// knows by an id, as idOf has it.
func (t *threads) isCondition(id int) string {
	if t.are() {
		return fmt.Sprintf("runtime.threadid == %d", id)
	}
	return fmt.Sprintf("runtime.curg.goid == %d", id)
}
