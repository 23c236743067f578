package adapter

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/go-delve/delve/pkg/proc"
	"github.com/google/go-dap"
)

// What a data breakpoint watches the session names by an expression: of a frame of
// the current thread, or of an address and a type of Go's. In a target without
// goroutines the client's name has the thread too, and the session is given the
// address, in a type that the program has.

// threadData begins the client's names of what is in a frame of a thread.
const threadData = "thread "

// goData matches the session's name of what is at an address.
var goData = regexp.MustCompile(`^-1,0,\*\(\*\[(\d+)\]byte\)\((0x[0-9a-f]+)\)$`)

// ofThread puts the thread into the answer to a request for what can be watched.
func ofThread(msg []byte, thread int) []byte {
	return edit(msg, "body", func(body []byte) []byte {
		return edit(body, "dataId", func(raw []byte) []byte {
			var id string
			if json.Unmarshal(raw, &id) != nil || strings.HasPrefix(id, "-1,") {
				return raw
			}
			_, rest, _ := strings.Cut(id, ",")
			return marshal(fmt.Sprintf("%s%d,%s", threadData, thread, rest))
		})
	})
}

// watchAddresses gives the data breakpoints in a request the session's names. The
// target is stopped and locked.
func (t *threads) watchAddresses(target *proc.Target, msg []byte) []byte {
	return edit(msg, "arguments", func(arguments []byte) []byte {
		return edit(arguments, "breakpoints", func(list []byte) []byte {
			var breakpoints []dap.DataBreakpoint
			if json.Unmarshal(list, &breakpoints) != nil {
				return list
			}
			t.mu.Lock()
			defer t.mu.Unlock()
			for i := range breakpoints {
				b := &breakpoints[i]
				id := b.DataId
				if t.watched[id] == "" {
					t.watched[id] = dataAddress(target, id)
				}
				b.DataId = t.watched[id]
			}
			return marshal(breakpoints)
		})
	})
}

// dataAddress returns the session's name of what the client has a name for.
func dataAddress(target *proc.Target, id string) string {
	if m := goData.FindStringSubmatch(id); m != nil {
		size, _ := strconv.ParseInt(m[1], 10, 64)
		addr, _ := strconv.ParseUint(m[2], 0, 64)
		return dataAt(target, addr, size, id)
	}
	var thread, frame int
	name := strings.SplitN(id, ",", 3)
	if n, _ := fmt.Sscanf(id, threadData+"%d,%d,", &thread, &frame); n != 2 || len(name) != 3 {
		return id // the session says what is wrong
	}
	now := target.CurrentThread().ThreadID()
	defer func() { _ = target.SwitchThread(now) }()
	if err := target.SwitchThread(thread); err == nil {
		if scope, err := proc.ConvertEvalScope(target, -1, frame, 0); err == nil {
			v, err := scope.EvalExpression(name[2], proc.LoadConfig{})
			if err == nil && v.Addr != 0 && v.Flags&proc.VariableFakeAddress == 0 && v.DwarfType != nil {
				return dataAt(target, v.Addr, v.DwarfType.Size(), id)
			}
		}
	}
	return fmt.Sprintf("-1,%d,%s", frame, name[2])
}

// cTypes are the names that compilers give to C's numbers, by their sizes.
var cTypes = map[int64][]string{
	1: {"char", "unsigned char", "signed char"},
	2: {"short int", "short", "short unsigned int", "unsigned short"},
	4: {"int", "unsigned int"},
	8: {"long int", "long", "long unsigned int", "unsigned long", "long long int", "long long", "long long unsigned int", "unsigned long long"},
}

// dataAt names memory by a type of its size that the program has; it is id if it
// has none.
func dataAt(target *proc.Target, addr uint64, size int64, id string) string {
	known, _ := target.BinInfo().Types()
	for _, name := range cTypes[size] {
		name = cPrefix + name
		if slices.Contains(known, name) {
			return fmt.Sprintf("-1,0,*(*%q)(%#x)", name, addr)
		}
	}
	return id
}
