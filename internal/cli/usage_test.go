package cli

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
)

func TestWrongUsage(t *testing.T) {
	for _, test := range []struct {
		args string
		want string
	}{
		{"", "which command?"},
		{"fly", `unknown command "fly"`},
		{"--speed=9 list", "unknown flag: --speed"},
		{"list", "which process?"},
		{"list --pid=x", "invalid argument"},
		{"list --pid=-4", "which process?"},
		{"list --pid=1 extra", "unknown command"},
		{"load --pid=1", "accepts 1 arg(s), received 0"},
		{"load --pid=1 a.so b.so", "accepts 1 arg(s), received 2"},
		{"load a.so", "which process?"},
		{"activate --pid=1", "accepts 1 arg(s), received 0"},
		{"activate --pid=1 --consistency=late 1", `--consistency is immediate or quiescent, not "late"`},
		{"activate --pid=1 --timeout=1s 1", "--timeout needs --consistency=quiescent"},
		{"activate --pid=1 --consistency=quiescent --timeout=0 1", "--timeout must be more than nothing"},
		{"activate --replace 1", "which process?"},
		{"load --pid=1 --resident=maybe a.so", `--resident is auto or never, not "maybe"`},
		{"dap --resident=maybe", `--resident is auto or never, not "maybe"`},
		{"deactivate 1", "which process?"},
		{"unload 1", "which process?"},
		{"inspect", "accepts 1 arg(s), received 0"},
		{"sources", "accepts 1 arg(s), received 0"},
		{"inspect --pid=0 a.so", "--pid must be the id of a process"},
		{"build", "which program?"},
		{"build --pid=1 --target=x", "which program?"},
		{"build --pid=-1", "--pid must be the id of a process"},
		{"build --target=x a b", "accepts at most 1 arg(s), received 2"},
		{"build --target=x --new=y", "what was the program built from?"},
		{"build --target=x --base=y --new=z ./cmd", "./cmd is not a source file of C or C++"},
		{"build --target=x --base=y --function=a.c:f fix.c", "without --base"},
		{"version now", "unknown command"},
		{"quarantine", "list or remove?"},
		{"quarantine end", `unknown command "end"`},
		{"quarantine remove", "requires at least 1 arg(s)"},
		{"demo now", "unknown command"},
		{"dap --stdio --listen=:0", "exclude each other"},
		{"dap --client-addr=x --listen=:0", "exclude each other"},
		{"dap --backend=rr", `unknown backend "rr"`},
		{"dap --log-output=dap", "log"},
	} {
		t.Run(test.args, func(t *testing.T) {
			r := darn(t, strings.Fields(test.args)...)
			if r.code != exitUsage || r.stdout != "" || !strings.Contains(r.stderr, test.want) {
				t.Errorf("exit status %d, stdout %q, stderr %q; want 2 and %q", r.code, r.stdout, r.stderr, test.want)
			}
		})
	}
}

func TestHelpIsNoError(t *testing.T) {
	for _, args := range []string{"--help", "help", "help build", "dap --help", "load -h"} {
		if r := darn(t, strings.Fields(args)...).ok(t); !strings.Contains(r.stdout, "Usage:") {
			t.Errorf("darn %s prints %q", args, r.stdout)
		}
	}
}

func TestVersionBeginsAsDelves(t *testing.T) {
	lines := strings.Split(darn(t, "version").ok(t).stdout, "\n")
	if len(lines) < 4 || lines[0] != "Delve Debugger" || !strings.HasPrefix(lines[1], "Version: 1.") ||
		!strings.HasPrefix(lines[2], "Build: ") || !strings.HasPrefix(lines[3], "Darn: ") {
		t.Errorf("darn version prints %q", lines)
	}
}

// The Go extension of VS Code reads the version of a debugger from its build
// information: the fourth word of the third line.
func TestTheBuildInformationIsAsTheGoExtensionReadsIt(t *testing.T) {
	out, err := exec.Command("go", "version", "-m", program).Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitN(string(out), "\n", 4)
	if len(lines) < 4 {
		t.Fatalf("go version -m prints %q", out)
	}
	words := strings.Split(lines[2], "\t")
	if len(words) < 4 || words[1] != "mod" || words[2] != "github.com/darn-dev/darn" || words[3] == "" {
		t.Errorf("the third line is %q", lines[2])
	}
}

func TestVersionAsJSON(t *testing.T) {
	var v map[string]string
	if err := json.Unmarshal([]byte(darn(t, "version", "--json").ok(t).stdout), &v); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"darn", "delve", "go"} {
		if v[key] == "" {
			t.Errorf("no %s in %v", key, v)
		}
	}
}
