package guard

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Record is what the audit log says of one operation, a line of JSON.
type Record struct {
	Time      string `json:"time"` // when it had ended, RFC 3339 with nanoseconds
	UID       int    `json:"uid"`  // who runs Darn
	User      string `json:"user,omitempty"`
	LoginUID  *int   `json:"loginUid,omitempty"` // who has logged in, if the kernel knows: it stays through sudo and su
	LoginUser string `json:"loginUser,omitempty"`
	PID       int    `json:"pid,omitempty"` // of the target
	Exe       string `json:"exe,omitempty"`
	BuildID   string `json:"buildId,omitempty"`
	Started   string `json:"started,omitempty"` // the target, RFC 3339
	Operation string `json:"operation"`
	Module    string `json:"module,omitempty"` // sha256 of its file without signature
	Path      string `json:"path,omitempty"`   // of that file
	Signer    string `json:"signer,omitempty"` // fingerprint of its key
	Patch     string `json:"patch,omitempty"`  // id
	Force     bool   `json:"force,omitempty"`
	// Result is done, begun (with audit-required only, before it is done), the code
	// of a refusal, or failed.
	Result  string `json:"result"`
	Message string `json:"message,omitempty"` // why it was not done
}

// The results of operations that were not refused.
const (
	resultDone   = "done"
	resultBegun  = "begun"
	resultFailed = "failed"
)

// Journald, as the place of an audit log, is systemd's journal.
const Journald = "journald"

// journalSocket is where the journal takes entries.
const journalSocket = "/run/systemd/journal/socket"

// writeAudit appends a record to the log at a place: a file or Journald.
func (g *Guard) writeAudit(place string, r *Record) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if place == Journald {
		return sendToJournal(g.journal, r, line)
	}
	return appendLine(place, line)
}

// appendLine appends one line to a file in one write, which leaves the lines of
// others whole. The file is for its owner only.
func appendLine(path string, line []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return err
	}
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return errors.Join(err, fmt.Errorf("%s is not a regular file", path), f.Close())
	}
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Close())
}

// sendToJournal sends an entry by the journal's own protocol (see "Native Journal
// Protocol" of systemd's documentation): lines of the form FIELD=value. JSON has
// no line breaks, nor has what is made of it here.
func sendToJournal(socket string, r *Record, line []byte) error {
	var fields map[string]any
	if err := json.Unmarshal(line, &fields); err != nil {
		return err
	}
	priority := "5" // notice
	if r.Result != resultDone && r.Result != resultBegun {
		priority = "4" // warning
	}
	var b strings.Builder
	add := func(field, value string) {
		fmt.Fprintf(&b, "%s=%s\n", field, strings.ReplaceAll(value, "\n", " "))
	}
	add("MESSAGE", fmt.Sprintf("%s of process %d (%s) by user %d %s: %s %s", r.Operation, r.PID, r.Exe, r.UID, r.User, r.Result, r.Message))
	add("PRIORITY", priority)
	add("SYSLOG_IDENTIFIER", "darn")
	add("DARN_RECORD", string(line))
	for name, value := range fields {
		add("DARN_"+strings.ToUpper(name), fmt.Sprint(value))
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetWriteDeadline(time.Now().Add(5 * time.Second))
	_, err = conn.Write([]byte(b.String()))
	return err
}

// newRecord says who asks for an operation on a process, 0 for none.
func newRecord(operation string, pid int) Record {
	r := Record{UID: os.Getuid(), PID: pid, Operation: operation}
	r.User = userName(r.UID)
	if login, err := os.ReadFile("/proc/self/loginuid"); err == nil {
		const unset = 1<<32 - 1
		if uid, err := strconv.ParseUint(strings.TrimSpace(string(login)), 10, 32); err == nil && uid != unset {
			id := int(uid)
			r.LoginUID, r.LoginUser = &id, userName(id)
		}
	}
	if pid != 0 {
		r.Exe, _ = os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if started, ok := startTime(pid); ok {
			r.Started = started.Format(time.RFC3339Nano)
		}
	}
	return r
}

func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return ""
}

// startTime returns when a process was started, to a hundredth of a second.
func startTime(pid int) (t time.Time, ok bool) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return t, false
	}
	// The name, in brackets, may hold anything. Field 22 of all, the 20th after it.
	_, rest, ok := cutLast(string(stat), ")")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 {
		return t, false
	}
	ticks, err := strconv.ParseInt(fields[19], 10, 64)
	if err != nil {
		return t, false
	}
	system, err := os.ReadFile("/proc/stat")
	if err != nil {
		return t, false
	}
	for line := range strings.Lines(string(system)) {
		var boot int64
		if _, err := fmt.Sscanf(line, "btime %d", &boot); err == nil {
			return time.Unix(boot, ticks*int64(10*time.Millisecond)).UTC(), true // USER_HZ is 100
		}
	}
	return t, false
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
