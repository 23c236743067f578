package adapter

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/go-dap"

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

	// What the last change has left: the code that no new call runs, and the
	// modules that are loaded.
	old   atomic.Pointer[patcher.OldCode]
	edits atomic.Pointer[edits]
	told  told

	lostMu  sync.Mutex      // guards what follows
	loaded  []patcher.Patch // as of the last change
	lost    []patcher.Patch // of the process before the last restart
	toOffer bool            // the client was not yet told of them

	running sync.WaitGroup  // operations
	ctxMu   sync.Mutex      // guards what follows; held while they are ended
	ctx     context.Context // of the operations, until close
	cancel  context.CancelFunc
}

func (s *patches) init(p *proxy) {
	s.p = p
	s.ctx, s.cancel = context.WithCancel(context.Background())
}

// close ends the operations under way and lets go of the engine. The next
// request opens it again, on the target that the session has then.
func (s *patches) close() {
	s.ctxMu.Lock()
	s.cancel()
	s.running.Wait()
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.ctxMu.Unlock()

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.engine != nil {
		s.engine.Close()
		s.target.Close()
		s.engine, s.target = nil, nil
		s.old.Store(nil)
		s.edits.Store(nil)
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
	engine, err := patcher.Open(target)
	if err == nil {
		if err = engine.Watch(ctx, images{}); err != nil {
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
	if old, err := e.OldCode(ctx); err == nil {
		s.old.Store(old)
	}
	if images, err := e.Images(ctx); err == nil {
		now := s.files().with(images)
		s.edits.Store(&now)
	}
	if l, err := e.Known(ctx); err == nil {
		s.lostMu.Lock()
		s.loaded = l.Patches
		s.lostMu.Unlock()
	}
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
// are set, which may lie in a patch. What can't be opened is said when it's
// asked for.
func (s *patches) prepare() {
	s.p.mu.Lock()
	wanted := s.p.attached && s.p.phase == stopped && !s.prepared
	s.prepared = s.prepared || wanted
	s.p.mu.Unlock()
	if wanted {
		ctx, cancel := context.WithTimeout(context.Background(), preparePatience)
		defer cancel()
		_, _ = s.open(ctx)
	}
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
	})
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
	At              json.RawMessage `json:"at,omitempty"`
	StopOnFirstCall bool            `json:"stopOnFirstCall"`
	Replace         bool            `json:"replace"`
}

// result is the answer to the requests that change a patch.
type result struct {
	Patch   *patcher.Patch   `json:"patch,omitempty"`
	Receipt *patcher.Receipt `json:"receipt"`
}

// answer runs one operation.
func (s *patches) answer(ctx context.Context, command string, raw json.RawMessage) (any, error) {
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
	case "darn/activate", "darn/deactivate", "darn/unload":
		if a.ID == "" {
			return nil, fmt.Errorf("%s needs the argument id: of a loaded patch, as darn/list shows it", command)
		}
	case "darn/list":
	default:
		return nil, fmt.Errorf("%s is not a request that Darn knows: it knows inspect, load, activate, deactivate, unload and list", command)
	}
	if len(a.At) > 0 && string(a.At) != "null" || a.StopOnFirstCall {
		return nil, errors.New("activation at a point (at, stopOnFirstCall) is not supported yet: nothing was done")
	}
	timeout := time.Duration(a.TimeoutMs) * time.Millisecond
	// A quiescent activation keeps to it itself, and says why it waited.
	if timeout > 0 && a.Consistency != patcher.Quiescent {
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
	var r result
	var reason string
	switch command {
	case "darn/inspect":
		return e.Inspect(ctx, a.Path)
	case "darn/list":
		return e.List(ctx)
	case "darn/load":
		reason = "loaded"
		r.Patch, r.Receipt, err = e.Load(ctx, a.Path)
	case "darn/activate":
		reason = "activated"
		pending := false
		r.Patch, r.Receipt, err = e.Activate(ctx, a.ID, patcher.ActivateOptions{
			Consistency: a.Consistency, Timeout: timeout, Replace: a.Replace,
			Waiting: func(patch *patcher.Patch, why *finding.Refusal) {
				update(why.Findings[0].Message)
				if !pending {
					pending = true
					s.tell("pending", patch, nil)
				}
			},
		})
		switch {
		case err != nil && pending:
			s.tell("failed", find(context.WithoutCancel(ctx), e, a.ID), nil)
		case err == nil:
			for _, id := range r.Receipt.Replaced {
				s.tell("deactivated", find(ctx, e, id), r.Receipt)
			}
		}
	case "darn/deactivate":
		reason = "deactivated"
		r.Patch, r.Receipt, err = e.Deactivate(ctx, a.ID)
	case "darn/unload":
		reason = "unloaded"
		was := find(ctx, e, a.ID)
		if r.Receipt, err = e.Unload(ctx, a.ID); err == nil {
			was.State = patcher.Unloaded
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

// changed tells the client what an operation has changed.
func (s *patches) changed(ctx context.Context, e *patcher.Engine, reason string, p *patcher.Patch, receipt *patcher.Receipt) {
	s.note(context.WithoutCancel(ctx), e)
	for _, b := range s.follow(context.WithoutCancel(ctx)) {
		s.p.event("breakpoint", dap.BreakpointEventBody{Reason: "changed", Breakpoint: b})
	}
	s.tell(reason, p, receipt)
	s.p.mu.Lock()
	redraw := s.p.hearsInvalidated && s.p.phase == stopped && (reason == "activated" || reason == "deactivated")
	s.p.mu.Unlock()
	if redraw {
		s.p.event("invalidated", dap.InvalidatedEventBody{Areas: []dap.InvalidatedAreas{"stacks"}})
	}
}

// tell sends the events about a patch. One that is not in the protocol goes to
// clients that know Darn only: others may give up the session over it, as Helix
// does.
func (s *patches) tell(reason string, p *patcher.Patch, receipt *patcher.Receipt) {
	s.p.mu.Lock()
	known := s.p.knowsDarn
	s.p.mu.Unlock()
	if known {
		s.p.event("darn/patch", patchEvent{reason, p, receipt})
	}
	kind := map[string]string{"loaded": "new", "unloaded": "removed"}[reason]
	s.p.event("module", moduleEvent{cmp.Or(kind, "changed"), moduleOf(p)})
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
