package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/darn-dev/darn/patcher/finding"
)

// CheckOwner refuses with unsupported-target a process that neither belongs to
// the user who runs this one nor may be touched since that is root. A capability
// that would make the kernel allow it does not count. The process is not
// touched. A process that is not there is no error of CheckOwner's.
func CheckOwner(pid int) error {
	status, err := readStatus(pid)
	if errors.Is(err, fs.ErrNotExist) || err == nil && status["Uid"] == "" {
		return nil
	}
	if err != nil {
		return err
	}
	return checkOwner(pid, status, os.Geteuid())
}

// checkOwner is CheckOwner for the user self.
func checkOwner(pid int, status map[string]string, self int) error {
	if self == 0 {
		return nil // whether this root is that of the process, the kernel says
	}
	// Real, effective and saved, and that of the file system.
	uids := strings.Fields(status["Uid"])
	own := strconv.Itoa(self)
	for _, uid := range uids {
		if uid == own {
			continue
		}
		if slices.Contains(uids, own) {
			return finding.Refuse(finding.UnsupportedTarget,
				fmt.Sprintf("process %d has rights of user %s besides yours (user %s): it runs a set-user-ID program, or is changing its user", pid, uid, own),
				"run darn as root")
		}
		return finding.Refuse(finding.UnsupportedTarget,
			fmt.Sprintf("process %d belongs to user %s, not to you (user %s)", pid, uid, own),
			"run darn as the user who owns the process, or as root")
	}
	return nil
}

// notPermitted says why the kernel may have answered EPERM.
func notPermitted(pid int) error {
	if err := CheckOwner(pid); err != nil {
		return err
	}
	text := fmt.Sprintf("the kernel does not let process %d be traced", pid)
	if os.Geteuid() == 0 && !initialNamespace() {
		return finding.Refuse(finding.UnsupportedTarget, text+": you are root in your user namespace only, as in a container, and the process is not in it",
			"run darn where the process is, as its owner, or as root outside of all user namespaces")
	}
	scope, _ := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope")
	switch s := strings.TrimSpace(string(scope)); {
	case s == "3":
		return finding.Refuse(finding.UnsupportedTarget, text+": kernel.yama.ptrace_scope is 3, which forbids all tracing until the machine is started again",
			"start the machine with a lower value")
	case s == "2" && os.Geteuid() != 0:
		return finding.Refuse(finding.UnsupportedTarget, text+": kernel.yama.ptrace_scope is 2, which leaves it to root",
			"run darn as root")
	case s == "1" && os.Geteuid() != 0:
		return finding.Refuse(finding.UnsupportedTarget, text+": kernel.yama.ptrace_scope is 1, which leaves it to root and to a process's parent",
			"let the debugger launch the program, run darn as root, or set it to 0: sysctl kernel.yama.ptrace_scope=0")
	}
	return finding.Refuse(finding.UnsupportedTarget, text,
		"the program has more rights than you (set-user-ID, set-group-ID, capabilities), or has made itself undumpable; run darn as root")
}

// initialNamespace tells whether this process is in the user namespace in which
// root is the machine's: all users are there, by their own numbers. Whether the
// other process is in the same one can't be seen where it may not be traced.
func initialNamespace() bool {
	text, err := os.ReadFile("/proc/self/uid_map")
	return err != nil || slices.Equal(strings.Fields(string(text)), []string{"0", "0", "4294967295"})
}
