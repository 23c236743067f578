package guard

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/module"
)

// Options are what a Guard goes by.
type Options struct {
	// Policy is the file of the machine's policy, SystemPolicy in use; "" for none.
	Policy string
	// RequireSignature is a file or directory of public keys; "" for none. The
	// policy's is required as well.
	RequireSignature string
	// Audit is a place for the audit log beside the policy's, "" for none.
	Audit string
	// State is where the quarantine is kept; "" for the user's own place.
	State string
	// Warn gets warnings: of an audit log that can't be written.
	Warn io.Writer
}

// Guard decides on operations. A nil one allows all and keeps nothing. Its methods
// may be called from several goroutines.
type Guard struct {
	required      []requirement
	audit         []string
	auditRequired bool
	noForce       bool
	state         string
	journal       string
	warn          io.Writer
}

// requirement is that modules are signed by one of the keys at path, which owners
// may change besides root.
type requirement struct {
	path   string
	owners []int
}

// New makes a Guard. It is refused with not-permitted if the policy can't be
// followed.
func New(o Options) (*Guard, error) {
	p, err := readPolicy(o.Policy)
	if err != nil {
		return nil, err
	}
	g := &Guard{auditRequired: p.auditRequired, noForce: p.noForce, state: o.State, journal: journalSocket, warn: o.Warn}
	if g.warn == nil {
		g.warn = io.Discard
	}
	if g.state == "" {
		if g.state, err = stateDir(); err != nil {
			return nil, err
		}
	}
	if p.requireSignature != "" {
		g.required = append(g.required, requirement{p.requireSignature, nil})
	}
	if o.RequireSignature != "" {
		g.required = append(g.required, requirement{o.RequireSignature, []int{os.Geteuid()}})
	}
	for _, r := range g.required {
		if _, err := r.keys(); err != nil {
			return nil, err
		}
	}
	for _, place := range []string{p.audit, o.Audit} {
		if place != "" {
			g.audit = append(g.audit, place)
		}
	}
	if g.auditRequired && p.audit == "" {
		return nil, finding.Refuse(finding.NotPermitted,
			fmt.Sprintf("nothing is done, since the policy in %s requires an audit log and names none", o.Policy), "ask the administrator of this machine to say audit = FILE or audit = journald there")
	}
	return g, nil
}

// keys reads the keys of a requirement, anew each time: they may be withdrawn
// while a debug session lasts.
func (r requirement) keys() (*Keys, error) {
	k, err := ReadKeys(r.path, r.owners...)
	if err != nil {
		return nil, finding.Refuse(finding.NotPermitted, fmt.Sprintf("signatures are required, and can't be checked: %v", err),
			"correct that; keys belong to root, or to you if you ask for signatures yourself, and can be written by nobody else")
	}
	return k, nil
}

// Act is one operation on a process. It is begun, and ended whatever becomes of
// it.
type Act struct {
	g      *Guard
	record Record
	build  string // what stands for the target's build
	audits bool
}

// Begin begins an operation on the process with an id, 0 for none. It is refused
// with not-permitted if it is to be forced and the policy does not allow that, or
// if it can't be written down and the policy requires that.
func (g *Guard) Begin(operation string, pid int, force bool) (*Act, error) {
	a := &Act{g: g, record: Record{Operation: operation, PID: pid, Force: force}}
	if g == nil {
		return a, nil
	}
	a.record = newRecord(operation, pid)
	a.record.Force = force
	switch operation {
	case string(patcher.OpList), "inspect": // which change nothing
	default:
		a.audits = len(g.audit) > 0
	}
	if force && g.noForce {
		return nil, a.End(finding.Refuse(finding.NotPermitted, "the policy of this machine does not allow that anything is forced",
			"correct what the refusal without --force says"))
	}
	if a.audits && g.auditRequired {
		a.record.Result = resultBegun
		if err := a.write(); err != nil {
			return nil, finding.Refuse(finding.NotPermitted,
				fmt.Sprintf("the policy of this machine requires that operations are written down, and this one can't be: %v", err),
				"ask the administrator of this machine; journald takes entries from every user, a file only from those who may write to it")
		}
	}
	return a, nil
}

// Process says which process it is, if that was not known when it was begun.
func (a *Act) Process(pid int) {
	if a.g != nil && a.record.PID != pid {
		now := newRecord(a.record.Operation, pid)
		a.record.PID, a.record.Exe, a.record.Started = pid, now.Exe, now.Started
	}
}

// Target says what the process is.
func (a *Act) Target(t patcher.TargetInfo) {
	if a.g != nil {
		a.build, a.record.BuildID = buildKey(t), t.BuildID
	}
}

// Patch says which patch the operation is about.
func (a *Act) Patch(p *patcher.Patch) {
	a.record.Patch, a.record.Module, a.record.Path = p.ID, p.Module, p.Path
}

// Open reads the module at path and says what there is against using it: errors
// that refuse, and warnings in their place if the operation is forced. The file is
// read once: what was looked at is the Module that is returned. owners may have
// written it besides root and the user: they can do to the target what they like
// anyhow. Another error is that of a file that is no module.
func (a *Act) Open(path string, owners ...int) (*module.Module, []finding.Finding, error) {
	f, err := module.OpenFile(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	m, err := module.ReadFile(f)
	if err != nil || a.g == nil {
		return m, nil, err
	}
	a.record.Module, a.record.Path, a.record.Signer = m.ID(), path, module.Fingerprint(m.Signer())
	var found []finding.Finding
	if why := changeableFile(path, f, append(owners, os.Geteuid())); why != nil {
		found = append(found, finding.Finding{Code: finding.ModuleWritable, Severity: finding.Error,
			Message: fmt.Sprintf("others than you could have changed what is in this module, or put it there: %v", why),
			Advice:  "make sure of what is in it, and copy it to where only you can write; or load it with --force"})
	}
	for _, r := range a.g.required {
		x, err := r.check(m)
		if err != nil {
			return nil, nil, err
		}
		if x != nil {
			return m, append(a.forced(found), *x), nil // which is never forced
		}
	}
	q, err := a.g.quarantineFinding(m.ID(), a.buildOf(m))
	if err != nil {
		return nil, nil, err
	}
	if q != nil {
		found = append(found, *q)
	}
	return m, a.forced(found), nil
}

// buildOf is the target's build, or if there is no target the one that m says it
// is for.
func (a *Act) buildOf(m *module.Module) string {
	if a.build != "" {
		return a.build
	}
	return patcher.DescribeModule(m, "").BuildID
}

// changeableFile looks at the way to a file, and at the file that is open.
func changeableFile(path string, f *os.File, owners []int) error {
	if err := changeable(path, owners...); err != nil {
		return err
	}
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	return checkInfo(path, fi, owners)
}

// check says what is wrong with a module's signature, nil if nothing is.
func (r requirement) check(m *module.Module) (*finding.Finding, error) {
	keys, err := r.keys()
	if err != nil {
		return nil, err
	}
	if m.Signer() == nil {
		return &finding.Finding{Code: finding.SignatureRequired, Severity: finding.Error,
			Message: fmt.Sprintf("the module is not signed, and has to be by one of the keys in %s", r.path),
			Advice:  "sign it: darn sign --key KEY MODULE; or build it with darn build --sign KEY"}, nil
	}
	if _, ok := keys.Name(m.Signer()); !ok {
		return &finding.Finding{Code: finding.SignatureInvalid, Severity: finding.Error,
			Message: fmt.Sprintf("the module is signed by the key %s, which is not among those in %s", module.Fingerprint(m.Signer()), r.path),
			Advice:  "have it signed by one of those: darn sign --key KEY MODULE"}, nil
	}
	return nil, nil
}

// forced makes warnings of errors if the operation is forced.
func (a *Act) forced(found []finding.Finding) []finding.Finding {
	for i := range found {
		if a.record.Force {
			found[i].Severity, found[i].Advice = finding.Warning, ""
		}
	}
	return found
}

// Refusal is the error of findings of which one refuses, nil if none does.
func Refusal(found []finding.Finding) error {
	for i, f := range found {
		if f.Severity == finding.Error {
			found[0], found[i] = found[i], found[0]
			return &finding.Refusal{Findings: found}
		}
	}
	return nil
}

// Activate refuses with quarantined an activation of a patch whose module has
// ended a process of this build before, unless it is forced.
func (a *Act) Activate(p *patcher.Patch) error {
	a.Patch(p)
	if a.g == nil || p.Module == "" {
		return nil // no such patch, which the engine says
	}
	q, err := a.g.quarantineFinding(p.Module, a.build)
	if q == nil || err != nil {
		return err
	}
	return Refusal(a.forced([]finding.Finding{*q}))
}

// End ends an operation that came to err, which it returns. A module that was
// forced is not in quarantine any more.
func (a *Act) End(err error) error {
	if a == nil || a.g == nil {
		return err
	}
	if err == nil && a.record.Force && a.record.Module != "" {
		if failed := a.g.lift(a.record.Module, a.build); failed != nil {
			fmt.Fprintln(a.g.warn, "darn: the quarantine could not be ended:", failed)
		}
	}
	a.record.Result, a.record.Message = resultDone, ""
	if err != nil {
		a.record.Result, a.record.Message = resultFailed, err.Error()
		if code := finding.CodeOf(err); code != "" {
			a.record.Result = string(code)
		}
	}
	if a.audits {
		if failed := a.write(); failed != nil {
			fmt.Fprintln(a.g.warn, "darn: the audit log could not be written:", failed)
		}
	}
	return err
}

// write writes the record to all logs.
func (a *Act) write() error {
	a.record.Time = time.Now().Format(time.RFC3339Nano)
	var err error
	for _, place := range a.g.audit {
		err = errors.Join(err, a.g.writeAudit(place, &a.record))
	}
	return err
}

// OwnerOf returns the users who may do to a process what they like, beside root.
func OwnerOf(pid int) []int {
	fi, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
	if err != nil {
		return nil
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return []int{int(st.Uid)}
	}
	return nil
}

// SignerName says who has signed a module: the fingerprint of the key, and the
// names of its files if it is among those that are required. It is "" if nobody
// has.
func (g *Guard) SignerName(m *module.Module) string {
	name := module.Fingerprint(m.Signer())
	if name == "" || g == nil {
		return name
	}
	var files []string
	for _, r := range g.required {
		if k, err := r.keys(); err == nil {
			if file, ok := k.Name(m.Signer()); ok {
				files = append(files, file)
			}
		}
	}
	if len(files) > 0 {
		name += " (" + strings.Join(files, ", ") + ")"
	}
	return name
}
