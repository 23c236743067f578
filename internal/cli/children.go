package cli

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/darn-dev/darn/internal/guard"
	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/process"
)

// family returns a process and, if children are wanted, those that it has forked
// and that run the same program, at any distance, in the order of their ids.
// Those that were forked with a patch and share its switches come last.
func family(pid int, children bool) ([]int, error) {
	if !children {
		return []int{pid}, nil
	}
	program, err := os.Readlink(procFile(pid, "exe"))
	if err != nil {
		return []int{pid}, nil // attaching says why
	}
	parents := map[int]int{}
	pids := process.Pids()
	for _, id := range pids {
		parents[id] = parentOf(id)
	}
	found := []int{pid}
	for _, id := range pids {
		for p, n := parents[id], 0; p != 0 && n < len(pids); p, n = parents[p], n+1 {
			if exe, _ := os.Readlink(procFile(id, "exe")); p == pid && exe == program {
				found = append(found, id)
				break
			}
		}
	}
	return found, nil
}

func procFile(pid int, name string) string { return fmt.Sprintf("/proc/%d/%s", pid, name) }

// parentOf returns the process's parent, 0 if there is none.
func parentOf(pid int) int {
	stat, err := os.ReadFile(procFile(pid, "stat"))
	if err != nil {
		return 0
	}
	_, rest, ok := strings.Cut(string(stat), ") ")
	if fields := strings.Fields(rest); ok && len(fields) > 1 {
		parent, _ := strconv.Atoi(fields[1])
		return parent
	}
	return 0
}

// eachProcess runs work on the process and, with --children, on each of its
// children. A child that shares the patches of one before it follows that, and is
// passed over. All are tried; the first error is returned.
func (a *app) eachProcess(op string, pid int, work func(*patcher.Engine, *guard.Act) error) error {
	pids, err := family(pid, a.children)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	var first error
	for i, p := range pids {
		if arena := patcher.SharedMemory(p); arena != "" {
			if seen[arena] {
				if !a.json {
					fmt.Fprintf(a.stdout, "process %d shares the patches of one above, and follows its switches\n", p)
				}
				continue
			}
			seen[arena] = true
		}
		if len(pids) > 1 && !a.json {
			fmt.Fprintf(a.stdout, "process %d:\n", p)
		}
		arena := patcher.SharedMemory(p)
		a.last = !slices.ContainsFunc(pids[i+1:], func(later int) bool {
			memory := patcher.SharedMemory(later)
			return memory == "" || memory != arena && !seen[memory]
		})
		err := a.headless(op, p, work)
		if arena := patcher.SharedMemory(p); arena != "" {
			seen[arena] = true
		}
		if err != nil && i > 0 {
			err = fmt.Errorf("process %d: %w", p, err)
		}
		if first == nil {
			first = err
		}
	}
	return first
}
