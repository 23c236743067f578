package targettest

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
)

// A debugger in the test process waits for all of its children and takes their
// ends from whoever else waits. So a target is not a child of the test but of a
// launcher: this same program in another role, which waits for the target,
// says how it ended, and kills it when the test process is no more.

// launcherEnv makes the program a launcher.
const launcherEnv = "DARN_TARGETTEST_LAUNCHER"

// reportFD is where the launcher reports "pid N" and "exit STATUS", a line each.
const reportFD = 3

func init() {
	if os.Getenv(launcherEnv) != "" {
		os.Unsetenv(launcherEnv)
		os.Exit(launch())
	}
}

// launch runs the program in the arguments until it ends or standard input does.
func launch() int {
	report := os.NewFile(reportFD, "report")
	syscall.CloseOnExec(reportFD)
	cmd := exec.Command(os.Args[1], os.Args[2:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	var uid, gid uint32
	if n, _ := fmt.Sscanf(os.Getenv(credentialEnv), "%d:%d", &uid, &gid); n == 2 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uid, Gid: gid}
	}
	os.Unsetenv(credentialEnv)
	if err := cmd.Start(); err != nil {
		fmt.Fprintf(report, "error %v\n", err)
		return 1
	}
	fmt.Fprintf(report, "pid %d\n", cmd.Process.Pid)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = cmd.Process.Kill()
	}()
	_ = cmd.Wait()
	status := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		fmt.Fprintf(report, "exit %d\n", -int(status.Signal()))
	} else {
		fmt.Fprintf(report, "exit %d\n", status.ExitStatus())
	}
	return 0
}

// credentialEnv tells the launcher whom to run the target as: uid:gid.
const credentialEnv = "DARN_TARGETTEST_CREDENTIAL"
