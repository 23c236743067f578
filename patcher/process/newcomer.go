package process

import (
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A process has one tracer at a time. A Watch is no reason to make another Darn
// wait: it listens on a socket without a file, named after the process that runs
// it, which ends with it. A newcomer connects, nothing is said, and the connection
// is closed when the Watch is over.

// asked is where a Watch hears of newcomers. A nil one hears of none.
type asked struct {
	listener *net.UnixListener

	mu    sync.Mutex
	first string // who came, in words
	conns []net.Conn
	came  chan struct{}
	over  bool
}

func socketName(pid int) string { return fmt.Sprintf("@darn-looks-on-%d", pid) }

// listen returns nil if it can't be heard, as somebody else has the name: then
// newcomers are refused with busy.
func listen() *asked {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socketName(os.Getpid()), Net: "unix"})
	if err != nil {
		return nil
	}
	a := &asked{listener: l, came: make(chan struct{})}
	go a.accept()
	return a
}

func (a *asked) accept() {
	for {
		c, err := a.listener.AcceptUnix()
		if err != nil {
			return
		}
		peer, err := peerOf(c)
		if err != nil || !mayAsk(int(peer.Uid), os.Geteuid()) {
			_ = c.Close()
			continue
		}
		a.mu.Lock()
		if a.over {
			_ = c.Close()
		} else if a.conns = append(a.conns, c); len(a.conns) == 1 {
			a.first = fmt.Sprintf("process %d", peer.Pid)
			close(a.came)
		}
		a.mu.Unlock()
	}
}

// mayAsk tells whether a user may end what self looks on at: who could end this
// process too.
func mayAsk(user, self int) bool { return user == 0 || user == self }

// heard is closed when somebody has come.
func (a *asked) heard() <-chan struct{} {
	if a == nil {
		return nil
	}
	return a.came
}

func (a *asked) who() string {
	if a == nil {
		return ""
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.first
}

// answer tells all who came that the watch is over.
func (a *asked) answer() {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.over = true
	_ = a.listener.Close()
	for _, c := range a.conns {
		_ = c.Close()
	}
}

func peerOf(c *net.UnixConn) (cred *unix.Ucred, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	if failed := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); failed != nil {
		return nil, failed
	}
	return cred, err
}

// answerTime bounds the wait for a Watch to end, which takes some milliseconds on
// a machine that has time.
const answerTime = 10 * time.Second

// EndWatch ends the Watch of another process's that traces the process pid, if
// one does, this user may, and it is no more than a Watch. Call it before the
// process is attached to by other means than Attach, which does so itself.
func EndWatch(pid int) {
	status, err := readStatus(pid)
	if err != nil || status["TracerPid"] == "0" {
		return
	}
	tracer, err := readStatus(atoi(status["TracerPid"]))
	if err != nil {
		return
	}
	darn := atoi(tracer["Tgid"])
	if darn == os.Getpid() {
		return
	}
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socketName(darn), Net: "unix"})
	if err != nil {
		return // it is none
	}
	defer c.Close()
	// Anybody can take the name.
	if peer, err := peerOf(c); err != nil || int(peer.Pid) != darn {
		return
	}
	_ = c.SetReadDeadline(time.Now().Add(answerTime))
	_, _ = io.Copy(io.Discard, c) // until it is closed, or the time is over; what became of it the next look shows
}
