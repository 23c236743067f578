package adapter

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-delve/delve/pkg/proc"
	"github.com/google/go-dap"

	"github.com/darn-dev/darn/internal/guard"
	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/process"
)

// patches answers Darn's own requests, each in a goroutine of its own: the
// session goes on meanwhile. The engine runs one operation at a time.
type patches struct {
	p        *proxy
	prepared bool // prepare has tried; guarded by p.mu

	mu     sync.Mutex // guards what follows; held while the engine is opened
	engine *patcher.Engine
	target *process.Process
	opened process.HaltStats // what opening took, until a receipt tells of it

	// What the last change has left: the code that no new call runs, and the
	// modules that are loaded.
	old   atomic.Pointer[patcher.OldCode]
	edits atomic.Pointer[edits]
	told  *told

	lostMu  sync.Mutex      // guards what follows
	loaded  []patcher.Patch // as of the last change
	active  map[patcher.Image]bool
	moved   []dap.Breakpoint // by the operation under way, in its own halt
	lost    []patcher.Patch  // of the process before the last restart
	toOffer bool             // the client was not yet told of them

	watches watches
	images  images
	vigil   vigil
	pending sync.Map // the activations that wait for a point or for the program to go on, by patch

	// furnished is set when nothing more has to be made for a first load.
	furnished atomic.Bool

	running sync.WaitGroup  // operations
	ctxMu   sync.Mutex      // guards what follows; held while they are ended
	ctx     context.Context // of the operations, until close
	cancel  context.CancelFunc
}

func (s *patches) init(p *proxy) {
	s.p = p
	s.watches.init(p)
	s.vigil.s, s.images.s = s, s
	s.told = newTold()
	s.ctx, s.cancel = context.WithCancel(context.Background())
}

// endOperations ends the operations under way.
func (s *patches) endOperations() {
	s.ctxMu.Lock()
	defer s.ctxMu.Unlock()
	s.cancel()
	s.running.Wait()
	s.watches.forget(context.Background(), func(*point, *firstCall) bool { return true })
	s.ctx, s.cancel = context.WithCancel(context.Background())
}

// close ends the operations under way and lets go of the engine. The next
// request opens it again, on the target that the session has then.
func (s *patches) close() {
	s.endOperations()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.engine != nil {
		s.engine.Close()
		s.target.Close()
		s.engine, s.target = nil, nil
		s.images.reset()
		s.furnished.Store(false)
		s.old.Store(nil)
		s.edits.Store(nil)
	}
}

// straighten has the engine do at once, while the target runs, what it would do when
// nothing is switched for a while.
func (s *patches) straighten() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.engine != nil {
		s.engine.Straighten()
	}
}

// open returns the engine for the session's target.
func (s *patches) open(ctx context.Context) (*patcher.Engine, error) {
	s.p.mu.Lock()
	err := s.p.ready()
	if s.p.quiescing {
		err = finding.Refuse(finding.WrongState, "the debug session is ending", "attach again")
	}
	s.p.mu.Unlock()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.engine != nil {
		return s.engine, nil
	}
	h, err := s.p.holdSession(ctx)
	if err != nil {
		return nil, err
	}
	target, err := process.New(s.p.debugger, s.p)
	s.p.letGo(h)
	if err != nil {
		return nil, err
	}
	if took := time.Since(h.asked); h.wasRun && h.joined == nil {
		s.opened = s.opened.Add(process.HaltStats{Halts: 1, Total: took, Max: took})
	}
	halts := target.Measure()
	defer func() { s.opened = s.opened.Add(halts()) }()
	var options []func(*patcher.Engine)
	s.p.mu.Lock()
	if s.p.withoutResident {
		options = append(options, patcher.WithoutResident())
	}
	s.p.mu.Unlock()
	engine, err := patcher.Open(target, options...)
	if err == nil {
		if err = engine.Watch(ctx, &s.images); err != nil {
			engine.Close()
		}
	}
	if err != nil {
		target.Close()
		return nil, err
	}
	s.engine, s.target = engine, target
	s.note(ctx, engine)
	return engine, nil
}

// note keeps in mind which code is old and which modules are loaded from now on.
func (s *patches) note(ctx context.Context, e *patcher.Engine) {
	v, err := e.View(ctx)
	if err != nil {
		return
	}
	s.old.Store(v.Old)
	now := s.files().with(v.Images)
	s.edits.Store(&now)
	active := make(map[patcher.Image]bool)
	for i, p := range v.Patches {
		active[v.Images[i]] = p.State == patcher.Active
	}
	s.lostMu.Lock()
	s.loaded, s.active = v.Patches, active
	s.lostMu.Unlock()
}

// files returns the modules that are loaded, as of the last change.
func (s *patches) files() edits {
	if e := s.edits.Load(); e != nil {
		return *e
	}
	return nil
}

// preparePatience is for how long prepare may keep an attached target stopped.
const preparePatience = 10 * time.Second

// prepare opens the engine on a target that was attached to while it is still
// stopped, so that it need not be halted for it later, and before breakpoints
// are set, which may lie in a patch; and on one that was launched, if the client wants
// patches, when it has stopped on its way. What can't be opened is said when it's
// asked for.
func (s *patches) prepare() {
	s.p.mu.Lock()
	wanted := s.p.phase == stopped && !s.prepared && (s.p.attached || s.p.interested && s.p.run > 0)
	s.prepared = s.prepared || wanted
	s.p.mu.Unlock()
	if wanted {
		ctx, cancel := context.WithTimeout(context.Background(), preparePatience)
		defer cancel()
		_, _ = s.open(ctx)
	}
	s.p.mu.Lock()
	still := s.p.phase == stopped
	s.p.mu.Unlock()
	if still && s.unfurnished() {
		s.furnish()
	}
}

// A first load needs the arena and the resident thread, which are made under a halt.
// A session that only debugs gets neither: they would stay behind, in part, if the
// adapter were killed. Once the client has made a request of Darn's that reaches the
// program, or from the beginning in a session of the type darn, they are made when the
// program stands still next, and are taken away at the end of the session if nothing
// was loaded.

// unfurnished tells whether they are to be made.
func (s *patches) unfurnished() bool {
	s.p.mu.Lock()
	wanted := s.p.interested && !s.p.withoutResident && !s.p.quiescing
	s.p.mu.Unlock()
	return wanted && !s.furnished.Load()
}

// furnishPatience is for how long a stop may be kept from the client for it.
const furnishPatience = 300 * time.Millisecond

// furnish makes them, if the target stands still.
func (s *patches) furnish() {
	s.mu.Lock()
	e := s.engine
	s.mu.Unlock()
	if e == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), furnishPatience)
	defer cancel()
	done, _ := e.Furnish(ctx) // the load does it, and says what fails
	s.furnished.Store(done)
}

// request handles a request of Darn's.
func (s *patches) request(h *header) {
	s.start(func(ctx context.Context) {
		body, err := s.answer(ctx, h.Command, h.Arguments)
		if err != nil {
			s.p.refuse(h, err)
			return
		}
		s.p.respond(h, body)
		finish(ctx, body)
	})
}

// finish does what an operation does after its answer.
func finish(ctx context.Context, body any) {
	if r, ok := body.(result); ok && r.rest != nil {
		_ = r.rest(ctx) // the client has heard of it
	}
}

// start runs an operation in its own goroutine.
func (s *patches) start(op func(ctx context.Context)) {
	s.ctxMu.Lock()
	defer s.ctxMu.Unlock()
	ctx := s.ctx
	s.running.Go(func() { op(ctx) })
}

// arguments are those of all requests.
type arguments struct {
	Path            string          `json:"path"`
	ID              string          `json:"id"`
	Consistency     string          `json:"consistency"`
	TimeoutMs       int64           `json:"timeoutMs"`
	At              *pointArguments `json:"at,omitempty"`
	StopOnFirstCall bool            `json:"stopOnFirstCall"`
	Replace         bool            `json:"replace"`
	Expression      string          `json:"expression"`
	FrameID         int             `json:"frameId"`
	Force           bool            `json:"force"`
	Dlopen          bool            `json:"dlopen"`
}

// result is the answer to the requests that change a patch.
type result struct {
	Patch   *patcher.Patch   `json:"patch,omitempty"`
	Receipt *patcher.Receipt `json:"receipt"`

	rest func(context.Context) error // what is done after the answer, if not nil
}

// answer runs one operation, which the guard hears of.
func (s *patches) answer(ctx context.Context, command string, raw json.RawMessage) (any, error) {
	var a arguments
	_ = json.Unmarshal(raw, &a) // perform says what is wrong
	s.p.mu.Lock()
	pid := s.p.pid
	s.p.mu.Unlock()
	act, err := s.p.guard.Begin(strings.TrimPrefix(command, "darn/"), pid, a.Force)
	if err != nil {
		return nil, err
	}
	body, err := s.perform(ctx, act, command, raw)
	if r, ok := body.(result); ok && r.rest != nil && err == nil {
		// It is pending, and ends when that does.
		rest := r.rest
		r.rest = func(ctx context.Context) error { return act.End(rest(ctx)) }
		return r, nil
	}
	return body, act.End(err)
}

// perform runs one operation.
func (s *patches) perform(ctx context.Context, act *guard.Act, command string, raw json.RawMessage) (any, error) {
	var a arguments
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &a); err != nil {
			return nil, fmt.Errorf("%s: arguments that make no sense: %w", command, err)
		}
	}
	switch command {
	case "darn/inspect", "darn/load":
		if a.Path == "" {
			return nil, fmt.Errorf("%s needs the argument path: a module file", command)
		}
		path, err := filepath.Abs(a.Path)
		if err != nil {
			return nil, err
		}
		a.Path = path
	case "darn/activate", "darn/deactivate", "darn/unload", "darn/compare":
		if a.ID == "" {
			return nil, fmt.Errorf("%s needs the argument id: of a loaded patch, as darn/list shows it", command)
		}
		if command == "darn/compare" && a.Expression == "" {
			return nil, fmt.Errorf("%s needs the argument expression: a call of one of the patch's functions, such as main.total(n, 100)", command)
		}
	case "darn/list":
	default:
		return nil, fmt.Errorf("%s is not a request that Darn knows: it knows inspect, load, activate, deactivate, unload, list and compare", command)
	}
	timeout := time.Duration(a.TimeoutMs) * time.Millisecond
	// An activation that waits keeps to it itself, and says why it waited.
	if timeout > 0 && a.Consistency != patcher.Quiescent && a.At == nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	update, end := s.p.progress(command)
	defer end()
	e, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	act.Target(e.Target())
	s.p.mu.Lock()
	s.p.interested = true
	s.p.mu.Unlock()
	if a.ID != "" {
		act.Patch(find(ctx, e, a.ID))
	}
	var r result
	var reason string
	switch command {
	case "darn/inspect":
		return inspect(ctx, e, act, a.Path)
	case "darn/list":
		return e.List(ctx)
	case "darn/compare":
		return s.compare(ctx, e, a)
	case "darn/load":
		reason = "loaded"
		if r.Patch, r.Receipt, err = load(ctx, e, act, a.Path, patcher.LoadOptions{Dlopen: a.Dlopen}); err == nil {
			act.Patch(r.Patch)
		}
	case "darn/activate":
		if err := act.Activate(find(ctx, e, a.ID)); err != nil {
			return nil, err
		}
		return s.activate(ctx, e, &a, timeout, update)
	case "darn/deactivate":
		reason = "deactivated"
		if r.Patch, r.Receipt, err = e.Deactivate(ctx, a.ID); err == nil {
			if v, ok := s.pending.Load(a.ID); ok {
				<-v.(*activation).over
			}
			r.Receipt.AddHalts(s.watches.unwatchFirst(ctx, a.ID), watchesFirst)
		}
	case "darn/unload":
		reason = "unloaded"
		was := find(ctx, e, a.ID)
		if r.Receipt, err = e.Unload(ctx, a.ID); err == nil {
			was.State = patcher.Unloaded
			s.furnished.Store(false) // with the last patch they went
			s.changed(ctx, e, reason, was, r.Receipt)
			return r, nil
		}
	}
	if err != nil {
		return nil, err
	}
	s.changed(ctx, e, reason, r.Patch, r.Receipt)
	return r, nil
}

// inspect runs darn/inspect.
func inspect(ctx context.Context, e *patcher.Engine, act *guard.Act, path string) (*patcher.Inspection, error) {
	m, found, err := act.Open(path, guard.OwnerOf(e.Target().PID)...)
	if err != nil {
		return nil, err
	}
	return e.InspectModule(ctx, m, path, found...)
}

// load runs darn/load.
func load(ctx context.Context, e *patcher.Engine, act *guard.Act, path string, options patcher.LoadOptions) (*patcher.Patch, *patcher.Receipt, error) {
	m, found, err := act.Open(path, guard.OwnerOf(e.Target().PID)...)
	if err == nil {
		err = guard.Refusal(found)
	}
	if err != nil {
		return nil, nil, err
	}
	p, r, err := e.LoadModule(ctx, m, path, options)
	if err == nil {
		p.Findings = append(found, p.Findings...)
	}
	return p, r, err
}

// activate runs darn/activate.
func (s *patches) activate(ctx context.Context, e *patcher.Engine, a *arguments, timeout time.Duration, update func(string)) (r result, err error) {
	pending := false
	opts := patcher.ActivateOptions{
		Consistency: a.Consistency, Timeout: timeout, Replace: a.Replace,
		Waiting: func(patch *patcher.Patch, why *finding.Refusal) {
			update(why.Findings[0].Message)
			if !pending && a.At == nil {
				pending = true
				s.tell("pending", patch, nil)
			}
		},
	}
	p := find(ctx, e, a.ID)
	if a.At != nil || s.needsARunningTarget(p) {
		return s.activateLater(ctx, e, a, opts)
	}
	var halts process.HaltStats
	watched := a.StopOnFirstCall && p.State == patcher.Loaded
	if watched {
		if halts, err = s.watches.watchFirst(ctx, p); err != nil {
			return result{}, err
		}
	}
	if r.Patch, r.Receipt, err = e.Activate(ctx, a.ID, opts); err != nil {
		if watched {
			s.watches.unwatchFirst(ctx, a.ID)
		}
		if pending {
			s.failed(ctx, e, a.ID, err)
		}
		return result{}, err
	}
	r.Receipt.AddHalts(halts, watchesFirst)
	s.activated(ctx, e, r.Patch, r.Receipt)
	return r, nil
}

// needsARunningTarget tells whether a patch can't be activated before the client
// lets the target go on: it is a goroutine of the target's that initialises what
// the patch brings.
func (s *patches) needsARunningTarget(p *patcher.Patch) bool {
	i := p.Initialisation
	if p.State != patcher.Loaded || i == nil || i.Phase != patcher.InitPending && i.Phase != patcher.InitRunning {
		return false
	}
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	return s.p.phase == stopped
}

// activated tells the client of an activation, and of the patches that it has
// replaced.
func (s *patches) activated(ctx context.Context, e *patcher.Engine, p *patcher.Patch, r *patcher.Receipt) {
	r.AddHalts(s.watches.unwatchFirst(ctx, r.Replaced...), watchesFirst)
	s.vigil.activated(ctx, e, p, r)
	for _, id := range r.Replaced {
		s.tell("deactivated", find(context.WithoutCancel(ctx), e, id), r)
	}
	s.changed(ctx, e, "activated", p, r)
}

// failed tells the client that a patch that was pending is not activated.
func (s *patches) failed(ctx context.Context, e *patcher.Engine, id string, err error) {
	body := patchEvent{Reason: "failed", Patch: find(context.WithoutCancel(ctx), e, id)}
	if r := finding.As(err); r != nil {
		body.Findings = r.Findings
	}
	s.send(body)
}

// changed tells the client what an operation has changed.
func (s *patches) changed(ctx context.Context, e *patcher.Engine, reason string, p *patcher.Patch, receipt *patcher.Receipt) {
	ctx = context.WithoutCancel(ctx)
	s.mu.Lock()
	opened := s.opened
	s.opened = process.HaltStats{}
	s.mu.Unlock()
	receipt.AddHalts(opened, "Darn has got to know the program")
	s.note(ctx, e)
	s.takeInIfStopped(ctx)
	move, refused := s.unsettled()
	if refused {
		receipt.AddHalts(s.retry(ctx), "the module has the code of a breakpoint that was refused")
	}
	s.lostMu.Lock()
	moved := s.moved
	s.moved = nil
	s.lostMu.Unlock()
	if move || refused {
		more, halts := s.follow(ctx)
		receipt.AddHalts(halts, "a breakpoint has to move")
		moved = append(moved, more...)
	}
	s.tellMoved(moved)
	s.tell(reason, p, receipt)
	s.p.mu.Lock()
	redraw := s.p.hearsInvalidated && s.p.phase == stopped && (reason == "activated" || reason == "deactivated")
	s.p.mu.Unlock()
	if redraw {
		s.p.event("invalidated", dap.InvalidatedEventBody{Areas: []dap.InvalidatedAreas{"stacks"}})
	}
}

// takeInIfStopped has Delve take in what it was not told of, if the target stands
// still for the client: there is no stop to come then.
func (s *patches) takeInIfStopped(ctx context.Context) {
	s.p.mu.Lock()
	still := s.p.standing
	s.p.mu.Unlock()
	if still && s.images.waiting() {
		s.takeInNow(ctx)
	}
}

// takeInNow has Delve take in what it was not told of, in a halt if the target runs:
// withTarget does it.
func (s *patches) takeInNow(ctx context.Context) process.HaltStats {
	halts, _ := s.p.withTarget(ctx, func(*proc.TargetGroup) error { return nil })
	return halts
}

// takeIn has Delve take in what it was not told of, at a stop, in the session's
// goroutine.
func (s *patches) takeIn() {
	if !s.images.waiting() {
		return
	}
	s.p.mu.Lock()
	dbg := s.p.debugger
	s.p.mu.Unlock()
	group, unlock := dbg.LockTargetGroup()
	defer unlock()
	if ok, _ := group.Valid(); ok {
		s.images.takeIn(group.Selected)
		go s.start(s.retryRefused) // it may have to wait for p.mu
	}
}

// retryRefused asks the session for breakpoints again that a module has the code of
// which it has just been told of.
func (s *patches) retryRefused(ctx context.Context) {
	s.p.mu.Lock()
	// The stop is about to be told. A target that runs on is not halted for it.
	s.p.waitFor(ctx, time.Second, func() bool { return s.p.phase != running })
	still := s.p.phase == stopped
	s.p.mu.Unlock()
	if _, refused := s.unsettled(); !still || !refused {
		return
	}
	s.retry(ctx)
	moved, _ := s.follow(ctx)
	s.tellMoved(moved)
}

// tellMoved tells the client of breakpoints that have moved.
func (s *patches) tellMoved(moved []dap.Breakpoint) {
	for _, b := range moved {
		s.p.event("breakpoint", dap.BreakpointEventBody{Reason: "changed", Breakpoint: b})
	}
}

// takeInBefore has Delve take in what it was not told of before the session gets a
// request to set breakpoints, which may be for code of a module.
func (s *patches) takeInBefore(h *header) {
	var a struct {
		Breakpoints []json.RawMessage `json:"breakpoints"`
	}
	s.p.mu.Lock()
	stepping := s.p.stepping // at its end it comes anyway
	s.p.mu.Unlock()
	if stepping || !s.images.waiting() || json.Unmarshal(h.Arguments, &a) != nil || len(a.Breakpoints) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), holdPatience)
	defer cancel()
	// If it can't be they are looked at by the next change of a patch.
	s.takeInNow(ctx)
}

// tell sends the events about a patch. One that is not in the protocol goes to
// clients that know Darn only: others may give up the session over it, as Helix
// does.
func (s *patches) tell(reason string, p *patcher.Patch, receipt *patcher.Receipt) {
	s.send(patchEvent{Reason: reason, Patch: p, Receipt: receipt})
}

func (s *patches) send(body patchEvent) {
	s.p.mu.Lock()
	known := s.p.knowsDarn
	s.p.mu.Unlock()
	if known {
		s.p.event("darn/patch", body)
	}
	kind := map[string]string{"loaded": "new", "unloaded": "removed"}[body.Reason]
	s.p.event("module", moduleEvent{cmp.Or(kind, "changed"), moduleOf(body.Patch)})
}

// moduleEvent is the body of the event module.
type moduleEvent struct {
	Reason string       `json:"reason"`
	Module loadedModule `json:"module"`
}

// patchEvent is the body of the event darn/patch.
type patchEvent struct {
	Reason  string           `json:"reason"`
	Patch   *patcher.Patch   `json:"patch"`
	Receipt *patcher.Receipt `json:"receipt,omitempty"` // none yet with pending, and none with failed
	// Findings say why an activation has failed.
	Findings []finding.Finding `json:"findings,omitempty"`
}

// find returns the patch with an id as it is now.
func find(ctx context.Context, e *patcher.Engine, id string) *patcher.Patch {
	if l, err := e.Known(ctx); err == nil {
		for _, p := range l.Patches {
			if p.ID == id {
				return &p
			}
		}
	}
	return &patcher.Patch{ID: id}
}
