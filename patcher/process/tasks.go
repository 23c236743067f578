package process

import (
	"os"
	"strconv"
	"strings"
)

// Tasks returns the directories in /proc of the threads of a process.
func Tasks(pid int) ([]string, error) {
	entries, err := os.ReadDir(procPath(pid, "task"))
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, e := range entries {
		dirs = append(dirs, procPath(pid, "task/"+e.Name()))
	}
	return dirs, nil
}

// FindTask returns the directory in /proc of the thread that has an id as the process
// itself sees it, in its namespace: what the kernel tells the process. It is "" if
// there is none.
func FindTask(pid, tid int) string {
	dirs, _ := Tasks(pid)
	for _, dir := range dirs {
		data, err := os.ReadFile(dir + "/status")
		if err != nil {
			continue // ended
		}
		_, ids, _ := strings.Cut(string(data), "\nNSpid:")
		ids, _, _ = strings.Cut(ids, "\n")
		if f := strings.Fields(ids); len(f) > 0 && f[len(f)-1] == strconv.Itoa(tid) {
			return dir
		}
	}
	return ""
}
