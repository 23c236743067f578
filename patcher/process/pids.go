package process

import (
	"path/filepath"
	"slices"
	"strconv"
)

// Pids returns the ids of all processes that this one can see, in order.
func Pids() []int {
	dirs, _ := filepath.Glob("/proc/[0-9]*") // fails for a bad pattern only
	var pids []int
	for _, dir := range dirs {
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}
