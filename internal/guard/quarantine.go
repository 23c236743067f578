package guard

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/finding"
)

// QuarantineTime is how soon after an activation the end of a process counts
// against the patch.
const QuarantineTime = 10 * time.Second

// Case is why a module is in quarantine for a build: which process ended after
// it was activated, and what was seen of that. It is kept as a file of JSON.
type Case struct {
	Module  string `json:"module"` // sha256 of its file without signature
	BuildID string `json:"buildId"`
	Name    string `json:"name"`
	Path    string `json:"path"`
	PID     int    `json:"pid"`
	Exe     string `json:"exe"`
	Patch   string `json:"patch"` // id
	// Active are the patches that were active, by id and name, Patch among them.
	Active    []string         `json:"active"`
	Activated time.Time        `json:"activated"`
	Ended     time.Time        `json:"ended"`
	How       string           `json:"how"`     // in words
	Receipt   *patcher.Receipt `json:"receipt"` // of the activation
	// Registers are those of the thread that ended the process, by name, Stack its
	// frames or what could be one, innermost first. Both may be empty; Note says
	// why, or what to think of them.
	Registers map[string]string `json:"registers,omitempty"`
	Stack     []string          `json:"stack,omitempty"`
	Note      string            `json:"note,omitempty"`
	// Lifted is when somebody has forced the module, and Lifter who.
	Lifted *time.Time `json:"lifted,omitempty"`
	Lifter string     `json:"lifter,omitempty"`
}

// String says what happened, for people.
func (c *Case) String() string {
	text := fmt.Sprintf("process %d %s %v after patch %s (%s) was activated", c.PID, c.How, c.after(), c.Patch, c.Name)
	if others := len(c.Active) - 1; others > 0 {
		text += fmt.Sprintf("; active were patches %s", strings.Join(c.Active, ", "))
	}
	if len(c.Stack) > 0 {
		text += "; it was at " + c.Stack[0]
	}
	return text
}

func (c *Case) after() time.Duration { return c.Ended.Sub(c.Activated).Round(10 * time.Millisecond) }

// casePath returns the file of a case.
func (g *Guard) casePath(module, buildID string) string {
	sum := sha256.Sum256([]byte(buildID))
	return filepath.Join(g.state, "quarantine", module+"-"+hex.EncodeToString(sum[:8])+".json")
}

// Quarantine keeps a case, and refuses its module from now on. It returns the
// path of the file that it is kept in.
func (g *Guard) Quarantine(c *Case) (path string, err error) {
	if g == nil {
		return "", nil
	}
	path = g.casePath(c.Module, c.BuildID)
	data, err := json.MarshalIndent(c, "", "\t")
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	return path, replace(path, append(data, '\n'), 0o600)
}

// quarantined returns the case of a module for a build, nil if there is none or
// it was lifted.
func (g *Guard) quarantined(module, buildID string) (c *Case, path string, err error) {
	path = g.casePath(module, buildID)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", nil
	}
	if err == nil {
		c = new(Case)
		err = json.Unmarshal(data, c)
	}
	if err != nil {
		return nil, "", fmt.Errorf("whether the module is in quarantine can't be known: %w", err)
	}
	if c.Lifted != nil {
		return nil, "", nil
	}
	return c, path, nil
}

// quarantineFinding says that a module has ended a process of a build before, nil
// if it has not.
func (g *Guard) quarantineFinding(module, buildID string) (*finding.Finding, error) {
	c, path, err := g.quarantined(module, buildID)
	if c == nil {
		return nil, err
	}
	return &finding.Finding{Code: finding.Quarantined, Severity: finding.Error,
		Message: fmt.Sprintf("this module is in quarantine for this build of the program: on %s %v", c.Ended.Local().Format("2006-01-02 at 15:04:05"), c),
		Advice:  fmt.Sprintf("what was kept of it is in %s; load a corrected module, or this one with --force", path)}, nil
}

// lift ends the quarantine of a module; the evidence stays.
func (g *Guard) lift(module, buildID string) error {
	c, _, err := g.quarantined(module, buildID)
	if c == nil {
		return err
	}
	now := time.Now()
	c.Lifted, c.Lifter = &now, userName(os.Getuid())
	_, err = g.Quarantine(c)
	return err
}

// buildKey returns what stands for a build of a program: its build id, or if it
// has none the hash of its file.
func buildKey(t patcher.TargetInfo) string {
	if t.BuildID != "" {
		return t.BuildID
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/exe", t.PID))
	if err != nil {
		return ""
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return ""
	}
	return "sha256:" + hex.EncodeToString(sum.Sum(nil))
}

// stateDir is where Darn keeps what outlives it: root's is the machine's.
func stateDir() (string, error) {
	return stateDirOf(os.Geteuid(), os.Getenv("XDG_STATE_HOME"))
}

func stateDirOf(uid int, dir string) (string, error) {
	if uid == 0 {
		return "/var/lib/darn", nil
	}
	if filepath.IsAbs(dir) {
		return filepath.Join(dir, "darn"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, ".local", "state", "darn"), nil
}
