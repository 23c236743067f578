package guard

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/darn-dev/darn/patcher/finding"
)

// SystemPolicy is where the machine's administrator says what Darn may do.
const SystemPolicy = "/etc/darn/policy"

// policy is what the machine's administrator says. Its file has lines of the
// form "key = value", empty ones, and comments, which begin with #.
type policy struct {
	requireSignature string // require-signature: a file or directory of public keys
	audit            string // audit: a file, or journald
	auditRequired    bool   // audit-required: yes or no
	noForce          bool   // allow-force = no
}

// readPolicy reads the policy at path; that there is none is one too. It fails,
// and nothing may be done then, if it can't be read or understood, or if others
// than root could have written it.
func readPolicy(path string) (policy, error) {
	p, err := parsePolicyFile(path)
	if err != nil {
		return p, finding.Refuse(finding.NotPermitted,
			fmt.Sprintf("nothing is done, since the policy in %s can't be followed: %v", path, err),
			"ask the administrator of this machine to correct it: it belongs to root, and so do the directories that it is in; docs/security.md says what may be in it")
	}
	return p, nil
}

func parsePolicyFile(path string) (p policy, err error) {
	if path == "" {
		return p, nil
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		// Not so a link that leads nowhere.
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			return p, nil
		}
	}
	if err != nil {
		return p, err
	}
	defer f.Close()
	if err := changeable(path); err != nil {
		return p, err
	}
	fi, err := f.Stat()
	if err != nil {
		return p, err
	}
	if err := checkInfo(path, fi, nil); err != nil {
		return p, err
	}
	if !fi.Mode().IsRegular() {
		return p, fmt.Errorf("it is not a regular file")
	}
	var seen []string
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		key, value, ok := strings.Cut(text, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if !ok || value == "" {
			return p, fmt.Errorf("line %d is not of the form key = value", n)
		}
		if slices.Contains(seen, key) {
			return p, fmt.Errorf("line %d says %s a second time", n, key)
		}
		seen = append(seen, key)
		if err := p.set(key, value); err != nil {
			return p, fmt.Errorf("line %d: %w", n, err)
		}
	}
	return p, lines.Err()
}

func (p *policy) set(key, value string) (err error) {
	switch key {
	case "require-signature":
		p.requireSignature, err = value, mustBePath(value)
	case "audit":
		p.audit = value
		if value != Journald {
			err = mustBePath(value)
		}
	case "audit-required":
		p.auditRequired, err = yes(value)
	case "allow-force":
		p.noForce, err = yes(value)
		p.noForce = !p.noForce
	default:
		// It may forbid what this Darn would do.
		return fmt.Errorf("%s is not a key that this version of Darn knows: those are require-signature, audit, audit-required and allow-force", key)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

func mustBePath(value string) error {
	if !filepath.IsAbs(value) {
		return fmt.Errorf("%q is not an absolute path", value)
	}
	return nil
}

func yes(value string) (bool, error) {
	if value != "yes" && value != "no" {
		return false, fmt.Errorf("%q is neither yes nor no", value)
	}
	return value == "yes", nil
}
