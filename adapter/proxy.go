package adapter

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/go-delve/delve/pkg/proc"
	delve "github.com/go-delve/delve/service/dap"
	"github.com/go-delve/delve/service/debugger"
	"github.com/google/go-dap"

	"github.com/darn-dev/darn/internal/guard"
	"github.com/darn-dev/darn/patcher/process"
)

// proxy stands between one client and one session of Delve's.
type proxy struct {
	conn    io.ReadWriteCloser
	client  *outbox
	session *delve.Session
	inner   *sessionConn
	done    chan struct{} // closed when the session's request loop has ended
	ending  chan struct{} // closed when the session is ended from here

	holding chan struct{} // holds one token while there is a hold
	patches patches
	guard   *guard.Guard
	threads threads

	mu       sync.Mutex
	debugger *debugger.Debugger // of the session, from its initialized event on
	state
	hold     *hold          // the last one
	starting *guard.Act     // an attach or a launch that is under way
	attempts int            // to attach, after the first
	guardian *process.Guard // of the target; nil if there is none
	pid      int            // of the target, from the session's initialized event on
	// What the client can do.
	showsProgress, hearsInvalidated bool
	knowsDarn                       bool // it has made a request of Darn's
	columnsStartAt                  int
	lastProgress                    int
	lastAsk                         int
	waiting                         map[int]func(*header) // by the numbers of the proxy's own requests
}

// firstAsk is above the sequence numbers that clients use.
const firstAsk = 1 << 40

// ServeConn serves one debug session to the client at conn and returns when it
// has ended and conn is closed. If ctx ends first the session does: a target
// that was attached to goes on, one that was launched is killed. A client that
// goes away without a word does the same.
//
// Delve collects every child process of its own, so a process can debug
// one target at a time and must not have other children meanwhile.
func ServeConn(ctx context.Context, conn io.ReadWriteCloser, cfg Config) error {
	return newProxy(conn, cfg).serve(ctx)
}

func newProxy(conn io.ReadWriteCloser, cfg Config) *proxy {
	p := &proxy{
		conn:    conn,
		client:  newOutbox(conn),
		guard:   cfg.Guard,
		done:    make(chan struct{}),
		ending:  make(chan struct{}),
		holding: make(chan struct{}, 1),
		lastAsk: firstAsk,
		waiting: make(map[int]func(*header)),
		state:   state{changed: make(chan struct{}), lastSets: make(map[string]*header), withoutResident: cfg.WithoutResident},
	}
	p.patches.init(p)
	p.threads.init(p)
	p.inner = newSessionConn(p.fromSession)
	p.session = delve.NewSession(p.inner, &delve.Config{
		Config:        cfg.delve(make(chan struct{})),
		StopTriggered: p.ending,
	}, nil)
	return p
}

func (p *proxy) serve(ctx context.Context) error {
	go func() {
		defer close(p.done)
		p.session.ServeDAPCodec()
	}()
	gone := make(chan error, 1)
	go func() { gone <- p.readClient() }()

	var err error
	select {
	case <-p.done:
	case err = <-gone:
		p.quiesce(false)
	case <-ctx.Done():
		err = ctx.Err()
		p.quiesce(false)
	}
	close(p.ending)
	p.session.Close()
	p.patches.close()
	p.inner.Close()
	select {
	case <-p.done:
		p.endGuard()
	case <-time.After(endPatience): // a build is under way, perhaps
	}
	p.client.close()
	select {
	case <-p.client.done:
	case <-time.After(endPatience): // the client has ceased to read
	}
	p.conn.Close()
	return err
}

// endPatience is for how long a session may take to see its end.
const endPatience = 5 * time.Second

// readClient handles the client's messages until there are no more.
func (p *proxy) readClient() error {
	next := p.messages(p.conn)
	for {
		msg, err := next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		p.fromClient(msg)
	}
}

// messages returns a function that reads the next message. What is longer than
// any message may be, such as a header that does not end, is an end.
func (p *proxy) messages(from io.Reader) (next func() ([]byte, error)) {
	const longest = 4<<20 + 4<<10 // what the protocol's reader takes, and a header
	limited := &io.LimitedReader{R: from}
	r := bufio.NewReader(limited)
	return func() ([]byte, error) {
		limited.N = longest
		return dap.ReadBaseMessage(r)
	}
}

// fromClient handles one message of the client's.
func (p *proxy) fromClient(msg []byte) {
	h := new(header)
	if err := json.Unmarshal(msg, h); err != nil || h.Type != "request" {
		p.inner.send(msg) // the session knows what to say to it
		return
	}
	if setRequest(h.Command) {
		p.letStepEnd()
		p.patches.takeInBefore(h)
	}
	switch {
	case h.Command == "initialize":
		p.initialize(h)
	case strings.HasPrefix(h.Command, "darn/"):
		p.mu.Lock()
		p.knowsDarn = true
		p.mu.Unlock()
		p.patches.request(h)
		return
	case h.Command == "evaluate" && p.patches.console(h):
		return
	case h.Command == "completions":
		p.patches.completions(h)
		return
	case h.Command == "modules":
		p.patches.modules(h)
		return
	case h.Command == "setInstructionBreakpoints" && p.patches.guardEntries(h):
		return
	case h.Command == "disassemble" && p.patches.disassemble(h):
		return
	case h.Command == "threads" && p.threads.list(h):
		return
	case h.Command == "configurationDone", h.Command == "continue", h.Command == "setBreakpoints", h.Command == "setFunctionBreakpoints":
		p.patches.prepare()
	case (h.Command == "attach" || h.Command == "launch") && p.refusesStart(h):
		return
	case h.Command == "restart":
		p.patches.close()
		p.patches.losing()
	case h.Command == "disconnect":
		p.quiesce(terminates(h))
	case h.Command == "stepIn":
		p.patches.prepareStepIn(h)
	}
	if h.Command == "setBreakpoints" {
		msg = p.patches.renumber(h, msg)
	}
	if h.Command == "restart" && p.threads.are() {
		msg = p.asBuilt(msg)
	}
	msg, at, ok := p.threads.prepare(h, msg)
	if !ok {
		return
	}
	stepGoesOn := h.Command == "continue" && p.stepGoesOn()
	p.mu.Lock()
	defer p.mu.Unlock()
	if at.thread != 0 && p.phase == stopped {
		p.threads.switchTo(at, h)
	}
	p.forwarded(h, stepGoesOn)
	if setRequest(h.Command) {
		// As the session gets it, to be made again if need be.
		h = &header{Seq: h.Seq, Command: h.Command, Arguments: member(msg, "arguments")}
		p.lastSets[setKey(h)] = h
		p.setting++
	}
	p.inner.send(msg)
	if h.Command == "configurationDone" {
		go p.patches.offer() // it may have to wait for p.mu
	}
}

// ask sends the session a request of the proxy's own. answer is called in the
// session's goroutine that writes the response. Called with p.mu held.
func (p *proxy) ask(command string, arguments any, answer func(*header)) {
	p.lastAsk++
	p.waiting[p.lastAsk] = answer
	p.inner.send(marshal(map[string]any{
		"seq": p.lastAsk, "type": "request", "command": command, "arguments": arguments,
	}))
}

// fromSession handles one message of the session's, in its goroutine.
func (p *proxy) fromSession(msg []byte) {
	var h header
	if err := json.Unmarshal(msg, &h); err != nil {
		p.pass(msg)
		return
	}
	if h.Type == "response" && h.Success && (setRequest(h.Command) || h.Command == "setDataBreakpoints") {
		p.look()
	}
	if h.Type == "response" && h.RequestSeq > firstAsk {
		p.mu.Lock()
		answer := p.waiting[h.RequestSeq]
		delete(p.waiting, h.RequestSeq)
		p.mu.Unlock()
		if answer != nil {
			answer(&h)
		}
		return
	}
	if h.Type == "response" && h.Command == "attach" && !h.Success && p.attachAgain(&h) {
		return
	}
	if h.Type == "response" && h.Command == "disconnect" && h.Success {
		p.endGuard() // when the client hears of the end, nothing is in the target any more
	}
	if h.Event == "stopped" {
		p.readByLeader(debuggerOf(p.session))
		p.patches.takeIn()
		var onward string
		if msg, onward = p.threads.atStop(msg); onward != "" {
			p.mu.Lock()
			defer p.mu.Unlock()
			if onward == hasEnded {
				p.threads.end()
				return
			}
			p.threads.goOn(onward, msg)
			return
		}
		_ = json.Unmarshal(msg, &h)
	}
	if h.Event == "output" {
		msg = p.threads.logged(msg)
	}
	if h.Event == "stopped" || h.Event == "output" {
		if msg = p.patches.watches.atStop(msg, &h); msg == nil {
			return
		}
		_ = json.Unmarshal(msg, &h)
	}
	if h.Event == "stopped" || h.Event == "initialized" {
		p.mu.Lock()
		p.standing = true
		p.mu.Unlock()
	}
	if h.Event == "stopped" {
		p.protectLaunched()
		p.patches.takeIn() // what has come since, the rest sees that it stands
		if p.patches.unfurnished() {
			p.standStillStopped(p.patches.furnish)
		}
	}
	pid, target := 0, (*proc.Target)(nil)
	if h.Event == "initialized" {
		group, unlock := debuggerOf(p.session).LockTargetGroup()
		pid = group.Selected.Pid()
		p.threads.begin(group)
		p.seeAll(group)
		noDownloads(group.Selected.BinInfo()) // or the first pause is not answered
		target = group.Selected
		unlock()
		p.guardLaunched(pid)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case h.Type == "response":
		p.answered(&h)
		p.notStarted(&h)
		if setRequest(h.Command) {
			p.setting--
		}
		switch {
		case h.Command == "initialize" && h.Success:
			msg = edit(msg, "body", addCapabilities)
		case h.Command == "stackTrace" && h.Success:
			msg = edit(msg, "body", p.patches.showFrames)
		case h.Success && setRequest(h.Command):
			p.patches.set(&h, msg)
			return
		}
		p.threads.answer(&h, msg)
	case h.Event == "continued":
		p.threads.answer(&h, msg)
	case h.Event == "stopped":
		p.passStop(msg, &h)
		p.patches.vigil.stopped(&h)
		p.passBegun()
	case h.Event == "initialized":
		p.debugger, p.pid = debuggerOf(p.session), pid
		go process.Unstick(target, p.done)
		p.started(pid)
		p.begun = msg
		if !p.pausing {
			p.passBegun()
		}
	case h.Event == "exited":
		p.noteEnd(&h)
		p.pass(msg)
	case h.Event == "terminated":
		p.noteEnd(&h)
		p.pass(msg)
		p.passBegun()
	case h.Event == "capabilities" && p.attached:
		// A target that was attached to can't be restarted; a session that is
		// asked to stops it and reports a pause.
		p.pass(edit(msg, "body", func(body []byte) []byte {
			return edit(body, "capabilities", func(c []byte) []byte { return addMember(c, "supportsRestartRequest", false) })
		}))
	default:
		p.pass(msg)
	}
}

// look sees the breakpoints after the session has set some, in its goroutine, while
// the target stands still for that.
func (p *proxy) look() {
	p.mu.Lock()
	dbg := p.debugger
	p.mu.Unlock()
	if dbg == nil {
		return
	}
	group, unlock := dbg.LockTargetGroup()
	defer unlock()
	if ok, _ := group.Valid(); ok {
		p.seeAll(group)
		process.ReadByLeader(group.Selected)
	}
}

// pass sends a message to the client.
func (p *proxy) pass(msg []byte) {
	p.client.put(func() []byte { return msg })
}

// passBegun tells the client that there is a target, or a new one after a restart.
// The session has a goroutine of its own that reports the stop of the old one, or its
// end, and may get to it only when the new one is there; until then it refuses to have
// the new one run. So the client is told of the two in the order in which they happened.
// Called with p.mu held.
func (p *proxy) passBegun() {
	if p.begun == nil {
		return
	}
	p.phase, p.stepping = stopped, false
	p.broadcast()
	p.pass(p.begun)
	p.begun = nil
}

// noteEnd notes that the target has exited, or was detached from. Called with p.mu held.
func (p *proxy) noteEnd(h *header) {
	p.threads.exited(h)
	p.patches.vigil.exited(h)
	p.phase, p.stepping, p.pausing = ended, false, false
	p.broadcast()
}

// passStop sends a stopped event to the client, with its true reason.
func (p *proxy) passStop(msg []byte, h *header) {
	var body dap.StoppedEventBody
	_ = json.Unmarshal(h.Body, &body)
	asked, hold := p.pausing, p.hold
	p.stoppedFor(body.Reason)
	if p.quiescing {
		return
	}
	if body.Reason != "pause" || asked || hold == nil {
		p.pass(p.threads.told(p.patches.told.nameHits(msg)))
		return
	}
	p.client.put(func() []byte {
		select {
		case <-hold.judged:
		case <-p.done:
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.halted {
			return msg
		}
		reason := p.coincided
		p.coincided = nil
		return p.threads.told(p.patches.told.nameHits(reason.report(msg)))
	})
}

// initialize notes what the client can do.
func (p *proxy) initialize(h *header) {
	var a dap.InitializeRequestArguments
	_ = json.Unmarshal(h.Arguments, &a)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.showsProgress, p.hearsInvalidated = a.SupportsProgressReporting, a.SupportsInvalidatedEvent
	p.columnsStartAt = 0
	// It is true if it is not there.
	var start struct{ ColumnsStartAt1 *bool }
	if _ = json.Unmarshal(h.Arguments, &start); start.ColumnsStartAt1 == nil || *start.ColumnsStartAt1 {
		p.columnsStartAt = 1
	}
}

// addCapabilities adds to the session's capabilities what Darn adds to it.
func addCapabilities(body []byte) []byte {
	body = addMember(body, "additionalModuleColumns", []dap.ColumnDescriptor{patchStateColumn})
	body = addMember(body, "supportsModulesRequest", true)
	body = addMember(body, "completionTriggerCharacters", []string{" ", "/"})
	body = addMember(body, "supportsCompletionsRequest", true)
	return addMember(body, "supportsDarn", true)
}

// noDebug, residentForbidden, debugsByDarn, substitutePath and terminates read
// arguments of requests.

func noDebug(h *header) bool {
	var a struct {
		NoDebug bool `json:"noDebug"`
	}
	_ = json.Unmarshal(h.Arguments, &a)
	return a.NoDebug && h.Command == "launch"
}

func residentForbidden(h *header) bool {
	var a struct {
		DarnResident string `json:"darnResident"`
	}
	_ = json.Unmarshal(h.Arguments, &a)
	return a.DarnResident == "never"
}

// debugsByDarn tells whether the user has chosen Darn among the debuggers of an
// editor that passes on its whole configuration, as VS Code does: a session of Delve's
// type may be one of somebody who knows nothing of patches.
func debugsByDarn(h *header) bool {
	var a struct {
		Type string `json:"type"`
	}
	_ = json.Unmarshal(h.Arguments, &a)
	return a.Type == "darn"
}

func substitutePath(h *header) (rules [][2]string) {
	var a struct {
		SubstitutePath []struct{ From, To string } `json:"substitutePath"`
	}
	_ = json.Unmarshal(h.Arguments, &a)
	for _, r := range a.SubstitutePath {
		rules = append(rules, [2]string{r.From, r.To})
	}
	return rules
}

func terminates(h *header) bool {
	var a dap.DisconnectArguments
	_ = json.Unmarshal(h.Arguments, &a)
	return a.TerminateDebuggee
}
