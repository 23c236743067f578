package process

import (
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/darn-dev/darn/patcher/finding"
)

// checkDebugLink refuses a process whose program names a file of debugging
// information that is none, such as a FIFO: Delve would read it for ever, with the
// process stopped.
func checkDebugLink(pid int) error {
	path, err := os.Readlink(procPath(pid, "exe"))
	if err != nil {
		return nil // others say why
	}
	program, err := elf.Open(procPath(pid, "exe"))
	if err != nil {
		return nil
	}
	defer program.Close()
	s := program.Section(".gnu_debuglink")
	if s == nil {
		return nil
	}
	data, err := s.Data()
	if err != nil {
		return nil
	}
	link, _, _ := strings.Cut(string(data), "\x00")
	for _, dir := range []string{"", ".debug"} {
		file := filepath.Join(filepath.Dir(path), dir, link)
		if info, err := os.Stat(file); err == nil && !info.Mode().IsRegular() && !info.IsDir() {
			return finding.Refuse(finding.UnsupportedTarget,
				fmt.Sprintf("process %d: its program has its debugging information in %s, which is not a regular file", pid, file),
				"remove it or put the right file there")
		}
	}
	return nil
}
