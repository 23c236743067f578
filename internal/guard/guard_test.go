package guard

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/module"
)

// library is the file of a module, compiled once.
var library = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "darn-guard-test-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	source := filepath.Join(dir, "m.c")
	if err := os.WriteFile(source, []byte("int total(int n) { return n; }"), 0o600); err != nil {
		return nil, err
	}
	if out, err := exec.Command("gcc", "-shared", "-fPIC", "-o", source+".so", source).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	return os.ReadFile(source + ".so")
})

// place is a folder with a module in it that nobody else can change.
func place(t *testing.T) (dir, path string) {
	t.Helper()
	data, err := library()
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	path = filepath.Join(dir, "m.so")
	must(t, os.WriteFile(path, data, 0o644))
	must(t, os.Chmod(path, 0o644))
	return dir, path
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, whose files a policy is made of")
	}
}

func newGuard(t *testing.T, o Options) *Guard {
	t.Helper()
	if o.State == "" {
		o.State = t.TempDir()
	}
	g, err := New(o)
	must(t, err)
	return g
}

func mustRefuse(t *testing.T, err error, code finding.Code, texts ...string) {
	t.Helper()
	if finding.CodeOf(err) != code {
		t.Fatalf("got %v, want %s", err, code)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%q does not say %q", err, text)
		}
	}
}

// load asks whether a module may be loaded, and returns what is said of it.
func load(t *testing.T, g *Guard, path string, force bool) ([]finding.Finding, error) {
	t.Helper()
	a, err := g.Begin("load", 0, force)
	if err != nil {
		return nil, err
	}
	_, found, err := a.Open(path)
	if err == nil {
		err = Refusal(found)
	}
	return found, a.End(err)
}

func TestAModuleThatOthersCanChangeIsRefused(t *testing.T) {
	other := func(path string) error { return os.Lchown(path, 65534, 65534) }
	for _, test := range []struct {
		name  string
		root  bool // is needed
		alter func(dir, path string) (string, error)
		says  string
	}{
		{"file that everybody can write", false, func(_, path string) (string, error) { return path, os.Chmod(path, 0o666) }, "m.so can be written by everybody (mode 0666)"},
		{"file that a group can write", true, func(_, path string) (string, error) {
			return path, errors.Join(os.Chown(path, 0, 65534), os.Chmod(path, 0o664))
		}, "m.so can be written by group 65534 (mode 0664)"},
		{"file of another user", true, func(_, path string) (string, error) { return path, other(path) }, "m.so belongs to user 65534"},
		{"directory that everybody can write", false, func(dir, path string) (string, error) { return path, os.Chmod(dir, 0o777) }, "can be written by everybody (mode 0777)"},
		{"directory of another user", true, func(dir, path string) (string, error) { return path, other(dir) }, "belongs to user 65534"},
		{"link of another user", true, func(dir, path string) (string, error) {
			link := filepath.Join(dir, "link.so")
			return link, errors.Join(os.Symlink(path, link), other(link))
		}, "link.so belongs to user 65534"},
		{"link through a directory that everybody can write", false, func(dir, path string) (string, error) {
			open, link := filepath.Join(dir, "open"), filepath.Join(dir, "link.so")
			err := errors.Join(os.Mkdir(open, 0o700), os.Chmod(open, 0o777), os.Symlink("../m.so", filepath.Join(open, "m.so")))
			return link, errors.Join(err, os.Symlink("open/m.so", link))
		}, "open can be written by everybody (mode 0777)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.root {
				needRoot(t)
			}
			dir, path := place(t)
			g := newGuard(t, Options{})
			if _, err := load(t, g, path, false); err != nil {
				t.Fatalf("before: %v", err)
			}
			path, err := test.alter(dir, path)
			must(t, err)
			_, err = load(t, g, path, false)
			mustRefuse(t, err, finding.ModuleWritable, "others than you could have changed what is in this module", test.says, "or load it with --force")
			found, err := load(t, g, path, true)
			if err != nil || len(found) != 1 || found[0].Severity != finding.Warning {
				t.Errorf("forced: %v, %v", found, err)
			}
		})
	}
}

// TestAModuleOfTheTargetsOwnerIsTaken: it is no others' than who may change the
// target anyhow.
func TestAModuleOfTheTargetsOwnerIsTaken(t *testing.T) {
	needRoot(t)
	_, path := place(t)
	must(t, os.Chown(path, 65534, 65534))
	a, err := newGuard(t, Options{}).Begin("load", 0, false)
	must(t, err)
	if _, found, err := a.Open(path, 65534); err != nil || len(found) > 0 {
		t.Errorf("got %v, %v", found, err)
	}
}

func TestASigningKeyIsForItsOwnerOnlyAndNeverWrittenOver(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	public, err := GenerateKey(path)
	must(t, err)
	private, err := ReadPrivateKey(path)
	must(t, err)
	if !public.Equal(private.Public()) {
		t.Error("the two are no pair")
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
	if _, err := GenerateKey(path); err == nil || !strings.Contains(err.Error(), "is there already, and a key is never written over") {
		t.Errorf("a second time: %v", err)
	}
	must(t, os.Remove(path))
	if _, err := GenerateKey(path); err == nil || !strings.Contains(err.Error(), "key.pub is there already") {
		t.Errorf("with the public key there: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Error("half a pair was left")
	}
}

func TestALoosePrivateKeyIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	_, err := GenerateKey(path)
	must(t, err)
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620} {
		must(t, os.Chmod(path, mode))
		if _, err := ReadPrivateKey(path); err == nil || !strings.Contains(err.Error(), "can be used by others than its owner") {
			t.Errorf("mode %v: %v", mode, err)
		}
	}
}

func TestOpenSSLAndDarnReadEachOthersKeys(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not here")
	}
	dir := t.TempDir()
	public, err := GenerateKey(filepath.Join(dir, "ours"))
	must(t, err)
	run := func(args ...string) {
		t.Helper()
		cmd := exec.Command(openssl, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	run("pkey", "-in", "ours", "-pubout", "-out", "again.pub")
	k, err := ReadKeys(filepath.Join(dir, "again.pub"), os.Geteuid())
	must(t, err)
	if _, ok := k.Name(public); !ok {
		t.Error("openssl makes another public key of ours")
	}
	run("genpkey", "-algorithm", "ed25519", "-out", "theirs")
	run("pkey", "-in", "theirs", "-pubout", "-out", "theirs.pub")
	must(t, os.Chmod(filepath.Join(dir, "theirs"), 0o600))
	private, err := ReadPrivateKey(filepath.Join(dir, "theirs"))
	must(t, err)
	k, err = ReadKeys(dir, os.Geteuid())
	must(t, err)
	if name, _ := k.Name(private.Public().(ed25519.PublicKey)); name != "theirs.pub" {
		t.Errorf("openssl's public key is in %q", name)
	}
	run("genpkey", "-algorithm", "x25519", "-out", "x25519")
	run("pkey", "-in", "x25519", "-pubout", "-out", "x25519.pub")
	if _, err := ReadKeys(dir, os.Geteuid()); err == nil || !strings.Contains(err.Error(), "x25519.pub holds a key for another algorithm than Ed25519") {
		t.Errorf("a key for something else: %v", err)
	}
}

func TestSignaturesThatAreRequired(t *testing.T) {
	keys, others := t.TempDir(), t.TempDir()
	for _, path := range []string{filepath.Join(keys, "ann"), filepath.Join(keys, "bob"), filepath.Join(others, "eve")} {
		_, err := GenerateKey(path)
		must(t, err)
	}
	dir, path := place(t)
	g := newGuard(t, Options{RequireSignature: keys})
	sign := func(key string) {
		t.Helper()
		private, err := ReadPrivateKey(key)
		must(t, err)
		_, err = SignFile(path, private)
		must(t, err)
	}
	_, err := load(t, g, path, false)
	mustRefuse(t, err, finding.SignatureRequired, "the module is not signed, and has to be by one of the keys in "+keys, "darn sign --key KEY MODULE")
	_, err = load(t, g, path, true)
	mustRefuse(t, err, finding.SignatureRequired)

	sign(filepath.Join(others, "eve"))
	_, err = load(t, g, path, true)
	mustRefuse(t, err, finding.SignatureInvalid, "which is not among those in "+keys)

	link := filepath.Join(dir, "link.so")
	must(t, os.Symlink("m.so", link))
	private, err := ReadPrivateKey(filepath.Join(keys, "bob"))
	must(t, err)
	if before, err := SignFile(link, private); err != nil || !strings.HasPrefix(before, "SHA256:") {
		t.Errorf("signed anew: before by %q, %v", before, err)
	}
	if fi, err := os.Lstat(link); err != nil || fi.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link has become %v, %v", fi.Mode(), err)
	}
	if found, err := load(t, g, path, false); err != nil || len(found) > 0 {
		t.Errorf("signed by bob: %v, %v", found, err)
	}
	m, err := module.Open(path)
	must(t, err)
	if name := g.SignerName(m); !strings.HasSuffix(name, " (bob.pub)") {
		t.Errorf("it is signed by %q", name)
	}

	data, err := os.ReadFile(path)
	must(t, err)
	data[len(data)/2] ^= 1
	must(t, os.WriteFile(path, data, 0o644))
	_, err = load(t, g, path, true)
	mustRefuse(t, err, finding.SignatureInvalid, "the module was changed after it was signed")

	// A key that is withdrawn is so at once.
	sign2, err := library()
	must(t, err)
	must(t, os.WriteFile(path, sign2, 0o644))
	sign(filepath.Join(keys, "bob"))
	must(t, os.Remove(filepath.Join(keys, "bob.pub")))
	_, err = load(t, g, path, false)
	mustRefuse(t, err, finding.SignatureInvalid)
	must(t, os.Remove(filepath.Join(keys, "ann.pub")))
	_, err = load(t, g, path, false)
	mustRefuse(t, err, finding.NotPermitted, "signatures are required, and can't be checked: there are no keys in "+keys)
}

func TestKeysThatOthersCanChangeAreNotTrusted(t *testing.T) {
	keys := t.TempDir()
	_, err := GenerateKey(filepath.Join(keys, "ann"))
	must(t, err)
	must(t, os.Chmod(keys, 0o777))
	_, err = New(Options{RequireSignature: keys, State: t.TempDir()})
	mustRefuse(t, err, finding.NotPermitted, "signatures are required, and can't be checked", "can be written by everybody")
}

// writePolicy makes a policy file.
func writePolicy(t *testing.T, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policy")
	must(t, os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o644))
	return path
}

func TestAPolicyThatCanNotBeFollowedRefusesAll(t *testing.T) {
	needRoot(t)
	for _, test := range []struct {
		name string
		path func() string
		says string
	}{
		{"a key that is not known", func() string { return writePolicy(t, "# comment", "require-signatures = /keys") }, "line 2: require-signatures is not a key that this version of Darn knows"},
		{"no value", func() string { return writePolicy(t, "allow-force") }, "line 1 is not of the form key = value"},
		{"neither yes nor no", func() string { return writePolicy(t, "allow-force = maybe") }, `allow-force: "maybe" is neither yes nor no`},
		{"a relative path", func() string { return writePolicy(t, "audit = log") }, `audit: "log" is not an absolute path`},
		{"a key twice", func() string { return writePolicy(t, "allow-force = no", "allow-force = yes") }, "line 2 says allow-force a second time"},
		{"everybody can write it", func() string {
			path := writePolicy(t)
			must(t, os.Chmod(path, 0o666))
			return path
		}, "can be written by everybody"},
		{"another user's", func() string {
			path := writePolicy(t)
			must(t, os.Chown(path, 65534, 0))
			return path
		}, "belongs to user 65534"},
		{"in another user's directory", func() string {
			path := writePolicy(t)
			must(t, os.Chown(filepath.Dir(path), 65534, 0))
			return path
		}, "belongs to user 65534"},
		{"a link that leads nowhere", func() string {
			path := filepath.Join(t.TempDir(), "policy")
			must(t, os.Symlink("nowhere", path))
			return path
		}, "no such file"},
		{"a directory", func() string { return t.TempDir() }, "not a regular file"},
		{"a FIFO", func() string {
			path := filepath.Join(t.TempDir(), "policy")
			must(t, syscall.Mkfifo(path, 0o600))
			return path
		}, "not a regular file"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := test.path()
			_, err := New(Options{Policy: path, State: t.TempDir()})
			mustRefuse(t, err, finding.NotPermitted, "nothing is done, since the policy in "+path+" can't be followed", test.says, "ask the administrator of this machine")
		})
	}
}

func TestWithoutAPolicyThereIsNone(t *testing.T) {
	for _, path := range []string{"", filepath.Join(t.TempDir(), "policy"), filepath.Join(t.TempDir(), "nowhere", "policy")} {
		newGuard(t, Options{Policy: path})
	}
}

func TestThePolicyCanForbidForce(t *testing.T) {
	needRoot(t)
	_, path := place(t)
	must(t, os.Chmod(path, 0o666))
	log := filepath.Join(t.TempDir(), "log")
	g := newGuard(t, Options{Policy: writePolicy(t, "allow-force = no # not here", "audit = "+log)})
	_, err := load(t, g, path, true)
	mustRefuse(t, err, finding.NotPermitted, "the policy of this machine does not allow that anything is forced")
	if r := records(t, log); len(r) != 1 || r[0].Result != string(finding.NotPermitted) || !r[0].Force {
		t.Errorf("the log says %+v", r)
	}
}

func TestThePolicysKeysAreRequiredBesideTheUsers(t *testing.T) {
	needRoot(t)
	keys, own := t.TempDir(), t.TempDir()
	_, err := GenerateKey(filepath.Join(keys, "admin"))
	must(t, err)
	_, err = GenerateKey(filepath.Join(own, "user"))
	must(t, err)
	_, path := place(t)
	private, err := ReadPrivateKey(filepath.Join(own, "user"))
	must(t, err)
	_, err = SignFile(path, private)
	must(t, err)
	g := newGuard(t, Options{Policy: writePolicy(t, "require-signature = "+keys), RequireSignature: own})
	_, err = load(t, g, path, false)
	mustRefuse(t, err, finding.SignatureInvalid, "not among those in "+keys)
}

// records reads an audit log.
func records(t *testing.T, path string) (all []Record) {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	for line := range strings.Lines(string(data)) {
		var r Record
		must(t, json.Unmarshal([]byte(line), &r))
		all = append(all, r)
	}
	return all
}

func TestTheAuditLogSaysWhoDidWhatToWhom(t *testing.T) {
	dir, path := place(t)
	log := filepath.Join(dir, "log")
	g := newGuard(t, Options{Audit: log})
	before := time.Now()
	a, err := g.Begin("load", os.Getpid(), false)
	must(t, err)
	a.Target(patcher.TargetInfo{PID: os.Getpid(), BuildID: "abc"})
	m, _, err := a.Open(path)
	must(t, err)
	a.Patch(&patcher.Patch{ID: "7", Module: m.ID(), Path: path})
	must(t, a.End(nil))
	a, err = g.Begin("activate", os.Getpid(), false)
	must(t, err)
	refusal := finding.Refuse(finding.InUse, "somebody is there", "wait")
	if err := a.End(refusal); err != refusal {
		t.Errorf("the error has become %v", err)
	}
	for _, reading := range []string{"list", "inspect"} {
		a, err = g.Begin(reading, os.Getpid(), false)
		must(t, err)
		must(t, a.End(nil))
	}
	if fi, err := os.Stat(log); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the log's mode is %v, %v", fi.Mode(), err)
	}
	all := records(t, log)
	if len(all) != 2 {
		t.Fatalf("%d records", len(all))
	}
	exe, err := os.Readlink("/proc/self/exe")
	must(t, err)
	r := all[0]
	at, err := time.Parse(time.RFC3339Nano, r.Time)
	if err != nil || at.Before(before) || at.After(time.Now()) {
		t.Errorf("the time is %s", r.Time)
	}
	started, err := time.Parse(time.RFC3339Nano, r.Started)
	if err != nil || started.After(before) || before.Sub(started) > 10*time.Minute {
		t.Errorf("it was started at %s", r.Started)
	}
	if r.UID != os.Getuid() || r.User == "" || r.PID != os.Getpid() || r.Exe != exe || r.BuildID != "abc" ||
		r.Operation != "load" || r.Module != m.ID() || r.Path != path || r.Patch != "7" || r.Result != "done" || r.Message != "" {
		t.Errorf("the record is %+v", r)
	}
	if r := all[1]; r.Operation != "activate" || r.Result != "in-use" || !strings.Contains(r.Message, "somebody is there") {
		t.Errorf("the record is %+v", r)
	}
}

func TestLinesOfTheAuditLogStayWhole(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	var all sync.WaitGroup
	for range 8 {
		g := newGuard(t, Options{Audit: log})
		all.Go(func() {
			for range 50 {
				a, err := g.Begin("load", os.Getpid(), false)
				if err != nil {
					t.Error(err)
					return
				}
				_ = a.End(errors.New(strings.Repeat("x", 5000)))
			}
		})
	}
	all.Wait()
	if n := len(records(t, log)); n != 400 {
		t.Errorf("%d records of 400", n)
	}
}

func TestAnAuditLogThatCanNotBeWrittenStopsNothing(t *testing.T) {
	dir, path := place(t)
	for name, make := range map[string]func(path string) error{
		"nowhere": func(string) error { return nil },
		"a FIFO": func(path string) error {
			return errors.Join(os.Mkdir(filepath.Dir(path), 0o700), syscall.Mkfifo(path, 0o600))
		},
		"a link": func(path string) error {
			return errors.Join(os.Mkdir(filepath.Dir(path), 0o700), os.Symlink("x", path))
		},
	} {
		var warnings bytes.Buffer
		log := filepath.Join(dir, name, "log")
		must(t, make(log))
		if _, err := load(t, newGuard(t, Options{Audit: log, Warn: &warnings}), path, false); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !strings.Contains(warnings.String(), "the audit log could not be written") {
			t.Errorf("%s: the warnings are %q", name, warnings.String())
		}
	}
}

func TestAnAuditLogThatIsRequired(t *testing.T) {
	needRoot(t)
	_, path := place(t)
	dir := filepath.Join(t.TempDir(), "audit")
	log := filepath.Join(dir, "log")
	g := newGuard(t, Options{Policy: writePolicy(t, "audit-required = yes", "audit = "+log)})
	_, err := load(t, g, path, false)
	mustRefuse(t, err, finding.NotPermitted, "requires that operations are written down, and this one can't be")
	must(t, os.Mkdir(dir, 0o700))
	_, err = load(t, g, path, false)
	must(t, err)
	if r := records(t, log); len(r) != 2 || r[0].Result != "begun" || r[1].Result != "done" {
		t.Errorf("the log says %+v", r)
	}
	_, err = New(Options{Policy: writePolicy(t, "audit-required = yes"), State: dir})
	mustRefuse(t, err, finding.NotPermitted, "requires an audit log and names none")
}

func TestTheJournalGetsTheRecord(t *testing.T) {
	_, path := place(t)
	g := newGuard(t, Options{Audit: Journald})
	g.journal = filepath.Join(t.TempDir(), "journal")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: g.journal, Net: "unixgram"})
	must(t, err)
	defer socket.Close()
	_, err = load(t, g, path, false)
	must(t, err)
	must(t, socket.SetReadDeadline(time.Now().Add(10*time.Second)))
	datagram := make([]byte, 1<<16)
	n, err := socket.Read(datagram)
	must(t, err)
	fields := map[string]string{}
	for line := range strings.Lines(string(datagram[:n])) {
		name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if !ok {
			t.Errorf("%q is no field", line)
		}
		fields[name] = value
	}
	var r Record
	must(t, json.Unmarshal([]byte(fields["DARN_RECORD"]), &r))
	if fields["SYSLOG_IDENTIFIER"] != "darn" || fields["PRIORITY"] != "5" || fields["MESSAGE"] == "" ||
		fields["DARN_OPERATION"] != "load" || fields["DARN_MODULE"] != r.Module || len(r.Module) != 64 || fields["DARN_RESULT"] != "done" {
		t.Errorf("the fields are %q", fields)
	}
}

func TestQuarantineHoldsUntilItIsForced(t *testing.T) {
	_, path := place(t)
	g := newGuard(t, Options{})
	m, err := module.Open(path)
	must(t, err)
	c := &Case{Module: m.ID(), BuildID: "build", Name: "m", Path: path, PID: 12, Patch: "1", Active: []string{"1 (m)"},
		Activated: time.Now().Add(-time.Second), Ended: time.Now(), How: "was ended by SIGSEGV", Stack: []string{"0x40 total+0x4"}}
	file, err := g.Quarantine(c)
	must(t, err)
	try := func(build string, force bool) error {
		t.Helper()
		a, err := g.Begin("load", 0, force)
		must(t, err)
		a.build = build
		_, found, err := a.Open(path)
		must(t, err)
		return a.End(Refusal(found))
	}
	mustRefuse(t, try("build", false), finding.Quarantined, "this module is in quarantine for this build of the program", "process 12 was ended by SIGSEGV 1s after patch 1 (m) was activated",
		"it was at 0x40 total+0x4", "what was kept of it is in "+file, "or this one with --force")
	must(t, try("another build", false))

	// A signature makes no other module of it.
	_, private, err := ed25519.GenerateKey(nil)
	must(t, err)
	_, err = SignFile(path, private)
	must(t, err)
	mustRefuse(t, try("build", false), finding.Quarantined)

	a, err := g.Begin("activate", 0, false)
	must(t, err)
	a.build = "build"
	mustRefuse(t, a.End(a.Activate(&patcher.Patch{ID: "1", Module: m.ID()})), finding.Quarantined)

	must(t, try("build", true))
	must(t, try("build", false))
	var kept Case
	data, err := os.ReadFile(file)
	must(t, err)
	must(t, json.Unmarshal(data, &kept))
	if kept.Lifted == nil || kept.How != c.How {
		t.Errorf("kept is %+v", kept)
	}
	if _, err := g.Quarantine(c); err != nil { // it happens again
		t.Fatal(err)
	}
	mustRefuse(t, try("build", false), finding.Quarantined)
}

func TestADamagedQuarantineIsNotPassedOver(t *testing.T) {
	_, path := place(t)
	g := newGuard(t, Options{})
	m, err := module.Open(path)
	must(t, err)
	file, err := g.Quarantine(&Case{Module: m.ID(), BuildID: patcher.DescribeModule(m, "").BuildID})
	must(t, err)
	must(t, os.WriteFile(file, []byte("{"), 0o600))
	if _, err := load(t, g, path, false); err == nil || !strings.Contains(err.Error(), "whether the module is in quarantine can't be known") {
		t.Errorf("got %v", err)
	}
	cases, err := g.Cases()
	must(t, err)
	if len(cases) != 1 || cases[0].Module != m.ID() || cases[0].File != file || !strings.Contains(cases[0].Note, "can't be read") {
		t.Errorf("kept are %+v", cases)
	}
	_, err = g.Remove(m.ID()[:shortestID])
	must(t, err)
	_, err = load(t, g, path, false)
	must(t, err)
}

func TestWhatIsTakenOutOfQuarantine(t *testing.T) {
	g := newGuard(t, Options{})
	for _, module := range []string{"0123456789aa", "0123456789ab"} {
		for _, build := range []string{"one", "other"} {
			_, err := g.Quarantine(&Case{Module: module, BuildID: build})
			must(t, err)
		}
	}
	for _, test := range []struct {
		module string
		says   string
		left   int
	}{
		{"0123456", "nothing is kept of a module 0123456", 4},
		{"", "nothing is kept", 4},
		{"fedcba98", "nothing is kept", 4},
		{"0123456789", "several modules", 4},
		{"0123456789aa", "", 2},
	} {
		_, err := g.Remove(test.module)
		if cases, _ := g.Cases(); (err == nil) != (test.says == "") || err != nil && !strings.Contains(err.Error(), test.says) || len(cases) != test.left {
			t.Errorf("%q: %v, and %d cases are left", test.module, err, len(cases))
		}
	}
	g.noForce = true
	_, err := g.Remove("0123456789ab")
	mustRefuse(t, err, finding.NotPermitted)
}

func TestWhereTheQuarantineIsKept(t *testing.T) {
	t.Setenv("HOME", "/home/ann")
	for _, test := range []struct {
		uid       int
		dir, want string
	}{
		{0, "/elsewhere", "/var/lib/darn"},
		{7, "/elsewhere", "/elsewhere/darn"},
		{7, "", "/home/ann/.local/state/darn"},
		{7, "relative", "/home/ann/.local/state/darn"},
	} {
		if got, err := stateDirOf(test.uid, test.dir); got != test.want || err != nil {
			t.Errorf("user %d with %q: %s %v, want %s", test.uid, test.dir, got, err, test.want)
		}
	}
}
