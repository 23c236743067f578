package adapter

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/go-delve/delve/pkg/logflags"
	"golang.org/x/sys/unix"
)

// unixPrefix marks an address that is the path of a socket.
const unixPrefix = "unix:"

// Listen listens at cfg.Listen, prints "DAP server listening at: ADDRESS" on
// standard output as "dlv dap" does, and serves the first client, like
// ServeConn. Only the same user can connect unless cfg says otherwise, and to a
// socket in the file system root; other connections are closed and the next one
// is waited for.
func Listen(ctx context.Context, cfg Config) error {
	l, err := listen(cfg.Listen)
	if err != nil {
		return err
	}
	defer l.Close()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	cfg.listener = l
	logflags.WriteDAPListeningMessage(l.Addr())
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return err
		}
		if cfg.OnlySameUser {
			if err := checkPeer(conn, false); err != nil {
				fmt.Fprintln(os.Stderr, "darn: connection closed:", err)
				conn.Close()
				continue
			}
		}
		l.Close() // nobody waits in vain for a second session
		return ServeConn(ctx, conn, cfg)
	}
}

func listen(addr string) (net.Listener, error) {
	path, ok := strings.CutPrefix(addr, unixPrefix)
	if !ok {
		return net.Listen("tcp", addr)
	}
	// The mode must be right from the first moment.
	old := unix.Umask(0o177)
	defer unix.Umask(old)
	return net.Listen("unix", path)
}

// Dial connects to the client that waits at cfg.ClientAddr and serves it, like
// ServeConn.
func Dial(ctx context.Context, cfg Config) error {
	network, addr := "tcp", cfg.ClientAddr
	if path, ok := strings.CutPrefix(addr, unixPrefix); ok {
		network, addr = "unix", path
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return err
	}
	if cfg.OnlySameUser {
		// Another user may have been faster to listen there.
		if err := checkPeer(conn, true); err != nil {
			conn.Close()
			return err
		}
	}
	return ServeConn(ctx, conn, cfg)
}

// ServeStdio serves a client at standard input and output, like ServeConn.
// Before it does it moves both out of the way: what Delve or a launched target
// prints goes to standard error, and the target reads nothing.
func ServeStdio(ctx context.Context, cfg Config) error {
	in, err := takeAway(unix.Stdin)
	if err != nil {
		return err
	}
	out, err := takeAway(unix.Stdout)
	if err != nil {
		return err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	if err := errors.Join(unix.Dup3(int(null.Fd()), unix.Stdin, 0), unix.Dup3(unix.Stderr, unix.Stdout, 0)); err != nil {
		return err
	}
	return ServeConn(ctx, stdio{in, out}, cfg)
}

// takeAway returns what a file descriptor refers to at another one.
func takeAway(fd int) (*os.File, error) {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("standard input and output: %w", err)
	}
	// Without this a pending read could not be ended by Close.
	if err := unix.SetNonblock(dup, true); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(dup), "stdio"), nil
}

// stdio is a connection made of two files.
type stdio struct{ in, out *os.File }

func (s stdio) Read(p []byte) (int, error)  { return s.in.Read(p) }
func (s stdio) Write(p []byte) (int, error) { return s.out.Write(p) }
func (s stdio) Close() error                { return errors.Join(s.in.Close(), s.out.Close()) }
