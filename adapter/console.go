package adapter

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/go-dap"

	"github.com/darn-dev/darn/patcher"
)

// consoleCommands are Darn's commands in the debug console.
var consoleCommands = []struct{ name, arguments, help string }{
	{"help", "", "this list"},
	{"inspect", "FILE", "what loading the module would do; nothing is touched"},
	{"load", "[--force] [--dlopen] FILE", "map the module into the target; nothing runs it yet"},
	{"activate", "[--force] ID [quiescent] [at FILE:LINE [hit CONDITION]] [TIMEOUT] [replace] [stop]", "switch its functions on"},
	{"deactivate", "ID", "switch them off"},
	{"unload", "ID", "take the module out"},
	{"again", "", "after a restart: apply the patches of the last process that fit"},
	{"list", "", "the patches in the target, and the frames in old code"},
	{"compare", "ID CALL", "what the old and the new code of a function return; it really runs, twice"},
}

// activateWords are what may follow the id in activate.
var activateWords = map[string]string{
	patcher.Quiescent: "when nobody is in the old code, for which it waits 10s or TIMEOUT",
	"replace":         "and switch all other patches off at the same instant",
	"at":              "when execution reaches FILE:LINE, without a stop; with hit as with a breakpoint's hit condition",
	"stop":            "and stop the program at the first call of the new code",
}

// consoleHelp is what "darn help" prints.
func consoleHelp() string {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, c := range consoleCommands {
		fmt.Fprintf(t, "darn %s\t%s\n", strings.TrimSpace(c.name+" "+c.arguments), c.help)
		if c.name == "activate" {
			for _, word := range slices.Sorted(maps.Keys(activateWords)) {
				fmt.Fprintf(t, "\t%s: %s\n", word, activateWords[word])
			}
		}
	}
	t.Flush()
	return strings.TrimSuffix(b.String(), "\n")
}

// consoleCommand is a command of Darn's in a debug console. Anything else that
// begins with the word darn may be an expression in the target's language.
var consoleCommand = regexp.MustCompile(`^\s*darn\s+([a-z]+)(?:\s+(.*?))?\s*$`)

// console handles a command for Darn that was typed into the debug console. It
// returns false if the request is none. A client that names no context, such as
// Helix, has no other place for commands; in watches and hovers there are none.
func (s *patches) console(h *header) bool {
	var a dap.EvaluateArguments
	if json.Unmarshal(h.Arguments, &a) != nil || a.Context != "repl" && a.Context != "" {
		return false
	}
	m := consoleCommand.FindStringSubmatch(a.Expression)
	if m == nil {
		return false
	}
	s.start(func(ctx context.Context) {
		text, body, err := s.command(ctx, m[1], m[2], a.FrameId)
		if err != nil {
			s.p.refuse(h, err)
			return
		}
		s.p.respond(h, dap.EvaluateResponseBody{Result: text})
		finish(ctx, body)
	})
	return true
}

// flags takes the flags off the front of a command's argument.
func (a *arguments) flags(name, argument string) (rest string) {
	for {
		flag, rest, _ := strings.Cut(argument, " ")
		switch {
		case flag == "--force" && (name == "load" || name == "activate"):
			a.Force = true
		case flag == "--dlopen" && name == "load":
			a.Dlopen = true
		default:
			return argument
		}
		argument = strings.TrimSpace(rest)
	}
}

// command runs a command, typed while a frame was selected, and returns what to
// print, with the answer that it shows.
func (s *patches) command(ctx context.Context, name, argument string, frame int) (string, any, error) {
	var a arguments
	argument = a.flags(name, argument)
	switch name {
	case "help":
		return consoleHelp(), nil, nil
	case "again":
		text, err := s.again(ctx)
		return text, nil, err
	case "inspect", "load":
		a.Path = argument
	case "activate":
		if err := a.parse(strings.Fields(argument)); err != nil {
			return "", nil, fmt.Errorf("%w:\n%s", err, consoleHelp())
		}
	case "deactivate", "unload":
		a.ID = argument
	case "compare":
		id, call, _ := strings.Cut(argument, " ")
		a.ID, a.Expression, a.FrameID = id, strings.TrimSpace(call), frame
	case "list":
	default:
		return "", nil, fmt.Errorf("darn has no command %s:\n%s", name, consoleHelp())
	}
	if argument == "" && name != "list" {
		return "", nil, fmt.Errorf("darn %s needs an argument:\n%s", name, consoleHelp())
	}
	body, err := s.answer(ctx, "darn/"+name, marshal(a))
	if err != nil {
		return "", nil, err
	}
	switch body := body.(type) {
	case *patcher.Inspection:
		return showInspection(body), body, nil
	case *patcher.Listing:
		return showListing(body), body, nil
	case *comparison:
		return showComparison(body), body, nil
	case result:
		return showResult(body), body, nil
	}
	return "", nil, nil
}

// parse reads the arguments of activate.
func (a *arguments) parse(words []string) error {
	if len(words) == 0 {
		return nil
	}
	a.ID, words = words[0], words[1:]
	next := func() (word string) {
		if len(words) > 0 {
			word, words = words[0], words[1:]
		}
		return word
	}
	for len(words) > 0 {
		word := next()
		timeout, err := time.ParseDuration(word)
		switch {
		case word == patcher.Quiescent || word == patcher.Immediate:
			a.Consistency = word
		case word == "replace":
			a.Replace = true
		case word == "stop":
			a.StopOnFirstCall = true
		case word == "at":
			where := next()
			i := strings.LastIndexByte(where, ':')
			line, err := strconv.Atoi(where[i+1:])
			if i < 1 || err != nil {
				return fmt.Errorf("darn activate at needs a place, FILE:LINE, not %q", where)
			}
			a.At = &pointArguments{Path: where[:i], Line: line}
		case word == "hit" && a.At != nil:
			a.At.HitCondition = next()
			if len(words) > 0 && strings.Trim(a.At.HitCondition, "=!<>%") == "" {
				a.At.HitCondition += " " + next() // an operator and a number
			}
		case err == nil && timeout > 0 && (a.Consistency == patcher.Quiescent || a.At != nil):
			a.TimeoutMs = max(timeout.Milliseconds(), 1)
		default:
			return fmt.Errorf("darn activate does not know %q", word)
		}
	}
	return nil
}

func showInspection(i *patcher.Inspection) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: %d functions\n", i.Module.ID, i.Module.Name, len(i.Module.Functions))
	for _, f := range i.Module.Functions {
		fmt.Fprintf(&b, "  %s %s\n", f.Name, f.Source)
	}
	for _, f := range i.Findings {
		fmt.Fprintln(&b, f)
	}
	if i.OK {
		b.WriteString("can be loaded")
	} else {
		b.WriteString("can't be loaded")
	}
	return b.String()
}

func showListing(l *patcher.Listing) string {
	var b strings.Builder
	fmt.Fprintf(&b, "process %d (%s)", l.Target.PID, l.Target.Version)
	if len(l.Patches) == 0 {
		b.WriteString(": no patches")
		return b.String()
	}
	b.WriteString("\n")
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, p := range l.Patches {
		frames := 0
		for _, f := range p.Functions {
			frames += max(f.FramesInOldCode, 0)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d functions\t%d frames in old code%s\n", p.ID, p.State, p.Name, len(p.Functions), frames, p.Initialisation)
	}
	t.Flush()
	if l.Receipt != nil {
		b.WriteString(showReceipt(l.Receipt))
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func showResult(r result) string {
	var b strings.Builder
	if r.Patch != nil {
		fmt.Fprintf(&b, "%s %s: %s\n", r.Patch.ID, r.Patch.Name, r.Patch.State)
	}
	if len(r.Receipt.Replaced) > 0 {
		fmt.Fprintf(&b, "replaced: %s\n", strings.Join(r.Receipt.Replaced, ", "))
	}
	b.WriteString(showReceipt(r.Receipt))
	return b.String()
}

func showReceipt(r *patcher.Receipt) string {
	text := fmt.Sprintf("%s in %v; ", r.Operation, time.Duration(r.DurationMicros)*time.Microsecond)
	if r.Halts == 0 {
		return text + "the target was not halted"
	}
	return text + fmt.Sprintf("%d halts of %d threads, %v altogether", r.Halts, r.ThreadsHalted, time.Duration(r.HaltMicros)*time.Microsecond)
}
