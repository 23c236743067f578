package adapter

import (
	"context"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/types"
	"slices"
	"strings"
	"time"

	"github.com/go-delve/delve/pkg/proc"
	"github.com/google/go-dap"

	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/finding"
)

// A comparison has the session call a function twice, each time after Delve was
// made to find one version of it only (version.go). The calls are the session's
// own, so that it knows what becomes of the target in them.
//
// The old version is entered where the program does, hence not while the jump
// there leads to an active patch. To enter it behind the jump would not do: a
// function whose stack has to grow, or which is preempted at its beginning,
// begins again at its entry.

// comparePatience is for how long each of the two calls may take.
var comparePatience = 30 * time.Second

// comparison is the answer to darn/compare.
type comparison struct {
	Old returned `json:"old"`
	New returned `json:"new"`
	// Equal is whether both are shown alike. What is cut off of long results is
	// not compared.
	Equal bool `json:"equal"`
}

// returned is what a call returned, or with what it panicked.
type returned struct {
	Result string `json:"result"`
	Type   string `json:"type"`
}

// compare calls both versions of a function of a patch.
func (s *patches) compare(ctx context.Context, e *patcher.Engine, a arguments) (*comparison, error) {
	if s.p.threads.are() {
		return nil, finding.Refuse(finding.UnsupportedTarget, errNoCalls.Error(),
			"have the program call both: deactivate the patch, look at a call, activate it and look at another")
	}
	call, err := parseCall(a.Expression)
	if err != nil {
		return nil, err
	}
	if err := s.p.mustBeStopped(); err != nil {
		return nil, err
	}
	if call.goroutine, err = s.p.goroutineOf(ctx, a.FrameID); err != nil {
		return nil, err
	}
	call.frame, call.patch = a.FrameID, a.ID
	var c comparison
	err = e.Steady(ctx, a.ID, func(module patcher.Image, serves func(uint64) string) error {
		call.module, call.serves = module, serves
		was, err := s.p.callVersion(ctx, call, oldVersion)
		if err != nil {
			return err
		}
		is, err := s.p.callVersion(ctx, call, newVersion)
		if err != nil {
			return err
		}
		c.Old, c.New = *was, *is
		c.Equal = c.Old == c.New
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &c, nil
}

// versionCall is a call that is to be made of both versions.
type versionCall struct {
	patch      string // its id
	module     patcher.Image
	serves     func(entry uint64) string // see patcher.Engine.Steady
	expression string
	function   string // the part of expression that names it
	name       string // the last part of function
	frame      int    // in which it is evaluated; 0 for the top one
	goroutine  int64  // of frame; 0 if it is the selected one
}

// parseCall reads a call. Its arguments are evaluated with it, twice: what they
// would call would run twice, and perhaps not return the same.
func parseCall(expression string) (*versionCall, error) {
	expr, err := parser.ParseExpr(expression)
	if err != nil {
		return nil, fmt.Errorf("%q is no expression: %w", expression, err)
	}
	call, ok := expr.(*ast.CallExpr)
	if !ok {
		return nil, fmt.Errorf("%q is not a call: give a call of one of the patch's functions, such as main.total(n, 100)", expression)
	}
	c := &versionCall{expression: expression, function: expression[call.Fun.Pos()-1 : call.Fun.End()-1]}
	switch fun := call.Fun.(type) {
	case *ast.Ident:
		c.name = fun.Name
	case *ast.SelectorExpr:
		c.name = fun.Sel.Name
	case *ast.IndexExpr, *ast.IndexListExpr:
		return nil, generic(c.function)
	default:
		return nil, fmt.Errorf("%s does not name a function: call it by its name, or a method by a variable, such as v.less(30)", c.function)
	}
	for _, part := range append([]ast.Expr{call.Fun}, call.Args...) {
		ast.Inspect(part, func(n ast.Node) bool {
			inner, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if name, ok := inner.Fun.(*ast.Ident); !ok || types.Universe.Lookup(name.Name) == nil {
				err = fmt.Errorf("%s is called in %q: it would run twice, and both versions are to have the same arguments; give them as variables or constants",
					expression[inner.Fun.Pos()-1:inner.Fun.End()-1], expression)
			}
			return err == nil
		})
	}
	return c, err
}

func generic(function string) error {
	return fmt.Errorf("%s is generic: which of its instances is meant can't be told; compare a function that calls it", function)
}

func notOf(function, id string) error {
	return fmt.Errorf("%s is not a function of which patch %s has new code", function, id)
}

// mustBeStopped refuses with wrong-state unless the target is stopped for the
// client.
func (p *proxy) mustBeStopped() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.phase == stopped && !p.quiescing {
		return nil
	}
	return finding.Refuse(finding.WrongState,
		"the program runs: a function can be called only where the debugger has stopped it",
		"stop it at a breakpoint, where the arguments are, and try again")
}

// goroutineOf returns the goroutine of a frame that the session has shown, 0 if
// frame is.
func (p *proxy) goroutineOf(ctx context.Context, frame int) (id int64, err error) {
	if frame == 0 {
		return 0, nil
	}
	answer := make(chan *header, 1)
	p.mu.Lock()
	p.ask("evaluate", dap.EvaluateArguments{Expression: "runtime.curg.goid", Context: "repl", FrameId: frame},
		func(h *header) { answer <- h })
	p.mu.Unlock()
	select {
	case h := <-answer:
		var body dap.EvaluateResponseBody
		if json.Unmarshal(h.Body, &body) == nil && h.Success {
			_, err = fmt.Sscan(body.Result, &id)
		}
		if id == 0 || err != nil {
			err = fmt.Errorf("frame %d has no goroutine: functions are called in the top frame of the one that stopped", frame)
		}
		return id, err
	case <-ctx.Done():
		return 0, finding.Refuse(finding.Busy, "the session is busy with another request: "+ctx.Err().Error(), "try again when it has ended")
	case <-p.done:
		return 0, finding.Refuse(finding.TargetExited, "the debug session has ended", "attach again")
	}
}

// called is how a call ended.
type called struct {
	returned
	err string // of the session's
}

// callVersion has the session make a call, of one version of the function.
func (p *proxy) callVersion(ctx context.Context, c *versionCall, v version) (*returned, error) {
	if err := p.mustBeStopped(); err != nil {
		return nil, err
	}
	stop, err := p.Halt(ctx)
	if err != nil {
		return nil, err
	}
	group, target := stop.Group, stop.Group.Selected
	result := make(chan called, 1)
	err = func() (err error) {
		// Until the session has the request nothing else must come to it.
		defer func() { _ = stop.Release() }()
		goroutine := int64(0)
		if g := target.SelectedGoroutine(); g != nil {
			goroutine = g.ID
		}
		if c.goroutine != 0 && c.goroutine != goroutine {
			return fmt.Errorf("functions can be called on the goroutine that stopped only, %d, and the frame is goroutine %d's", goroutine, c.goroutine)
		}
		pairs, err := c.pairs(target)
		if err != nil {
			return err
		}
		show := findOnly(target.BinInfo(), pairs, v)
		defer func() {
			if err != nil {
				show()
			}
		}()
		if err := c.leadsTo(target, pairs, v); err != nil {
			return err
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.phase != stopped {
			return finding.Refuse(finding.WrongState, "the program was made to run meanwhile", "compare when it is stopped")
		}
		hear := passBreakpoints(target)
		dbg := p.debugger
		p.ask("evaluate", dap.EvaluateArguments{Expression: "call " + c.expression, Context: "repl", FrameId: c.frame}, func(h *header) {
			_, unlock := dbg.LockTargetGroup()
			defer unlock()
			hear()
			show()
			result <- readResult(target, goroutine, h)
		})
		return nil
	}()
	if err != nil {
		return nil, err
	}

	patience := time.NewTimer(comparePatience)
	defer patience.Stop()
	gaveUp := ""
	for {
		select {
		case r := <-result:
			switch {
			case r.err == "":
				return &r.returned, nil
			case gaveUp != "":
				return nil, fmt.Errorf("the %s version of %s %s: it was stopped, and goes on when the program is continued, which stops again when it has", v, c.function, gaveUp)
			case strings.HasSuffix(r.err, ": call stopped"):
				return nil, fmt.Errorf("the program stopped while the %s version of %s ran, at a breakpoint that another goroutine came to or for another reason: "+
					"the call goes on when the program is continued, and its result is not seen", v, c.function)
			}
			return nil, fmt.Errorf("the %s version of %s was not called to its end: %s", v, c.function, r.err)
		case <-patience.C:
			gaveUp = fmt.Sprintf("has not returned for %v", comparePatience)
			_ = group.RequestManualStop() // the answer says whether it did
		case <-ctx.Done():
			gaveUp = "has not returned: " + ctx.Err().Error()
			_ = group.RequestManualStop()
			ctx = context.WithoutCancel(ctx)
		case <-p.done:
			return nil, finding.Refuse(finding.TargetExited, "the debug session has ended", "attach again")
		}
	}
}

// leadsTo refuses the call unless it enters that version of one of the functions.
func (c *versionCall) leadsTo(target *proc.Target, pairs []pair, v version) error {
	scope, err := proc.ConvertEvalScope(target, -1, 0, 0)
	if err != nil {
		return err
	}
	f, err := scope.EvalExpression(c.function, proc.LoadConfig{})
	if err != nil {
		return fmt.Errorf("%s can't be found here: %w", c.function, err)
	}
	i := slices.IndexFunc(pairs, func(p pair) bool { return p[v].Entry == f.Base })
	if i < 0 {
		return notOf(c.function, c.patch)
	}
	if by := c.serves(f.Base); by != "" {
		return finding.Refuse(finding.WrongState,
			fmt.Sprintf("patch %s is active: calls of %s go to its code, and the %s code can't be entered apart from it", by, pairs[i][v].Name, v),
			fmt.Sprintf("deactivate patch %s, compare, and activate it again", by))
	}
	return nil
}

// readResult reads what the session's call returned. The target is stopped.
func readResult(target *proc.Target, goroutine int64, h *header) called {
	if !h.Success {
		var body dap.ErrorResponseBody
		if json.Unmarshal(h.Body, &body) != nil || body.Error == nil {
			return called{err: "the debugger does not say why"}
		}
		return called{err: body.Error.Format}
	}
	var body dap.EvaluateResponseBody
	_ = json.Unmarshal(h.Body, &body)
	r := called{returned: returned{Result: body.Result}}
	for _, th := range target.ThreadList() {
		g, err := proc.GetG(th)
		if err != nil || g == nil || g.ID != goroutine || !th.Common().CallReturn {
			continue
		}
		var names []string
		for _, v := range th.Common().ReturnValues(proc.LoadConfig{}) {
			if v.Name == "~panic" {
				r.Result = "panic: " + r.Result
			}
			names = append(names, v.TypeString())
		}
		r.Type = strings.Join(names, ", ")
	}
	return r
}

// showComparison puts a comparison into words.
func showComparison(c *comparison) string {
	verdict := "they differ"
	if c.Equal {
		verdict = "they are equal"
	}
	if strings.Contains(c.Old.Result+c.New.Result, "...") {
		verdict += ", as far as they are shown"
	}
	return fmt.Sprintf("old: %s\nnew: %s\n%s", c.Old.Result, c.New.Result, verdict)
}
