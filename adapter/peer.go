package adapter

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// checkPeer returns an error unless the other end of a connection belongs to the
// user who runs this process. Who it is on another machine can't be known: such
// a connection is refused unless this process has made it.
func checkPeer(conn net.Conn, made bool) error {
	if conn, ok := conn.(*net.UnixConn); ok {
		return checkUnixPeer(conn)
	}
	local, ok := conn.LocalAddr().(*net.TCPAddr)
	remote, ok2 := conn.RemoteAddr().(*net.TCPAddr)
	switch {
	case !ok || !ok2:
		return fmt.Errorf("whose the connection from %v is can't be known", conn.RemoteAddr())
	case isOurs(remote.IP):
	case made:
		return nil
	default:
		return fmt.Errorf("%v is on another machine, where users can't be told apart; --only-same-user=false serves everybody who can connect", remote)
	}
	uid, err := socketOwner(remote, local)
	if err != nil {
		return err
	}
	return sameUser(remote, uid)
}

func sameUser(peer net.Addr, uid int) error {
	if uid != os.Getuid() {
		return fmt.Errorf("%v belongs to user %d, and only connections of user %d are served", peer, uid, os.Getuid())
	}
	return nil
}

// checkUnixPeer is checkPeer for a socket in the file system, to which root may
// connect too: nobody can keep it from that.
func checkUnixPeer(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) { peer, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return err
	}
	if failed != nil || peer.Uid == 0 {
		return failed
	}
	return sameUser(conn.LocalAddr(), int(peer.Uid))
}

// isOurs tells whether an address is one of this machine's.
func isOurs(ip net.IP) bool {
	if ip.IsLoopback() {
		return true
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.Equal(ip) {
			return true
		}
	}
	return false
}

// socketOwner returns the user id of a socket on this machine.
func socketOwner(local, remote *net.TCPAddr) (int, error) {
	for _, path := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(path)
		if err != nil {
			continue // a kernel without it
		}
		uid, ok := findSocket(f, local, remote)
		f.Close()
		if ok {
			return uid, nil
		}
	}
	return 0, fmt.Errorf("the owner of %v is not known", local)
}

// findSocket searches a table of the kind of /proc/net/tcp, see proc_net(5).
func findSocket(table io.Reader, local, remote *net.TCPAddr) (uid int, ok bool) {
	for s := bufio.NewScanner(table); s.Scan(); {
		// slot, local, remote, state, queues, timer, retransmits, uid
		f := strings.Fields(s.Text())
		if len(f) > 7 && sameAddr(f[1], local) && sameAddr(f[2], remote) {
			uid, err := strconv.Atoi(f[7])
			return uid, err == nil
		}
	}
	return 0, false
}

// sameAddr compares an address as the kernel prints it, words in its own byte
// order, with a.
func sameAddr(printed string, a *net.TCPAddr) bool {
	for _, ip := range []net.IP{a.IP.To4(), a.IP.To16()} {
		var b strings.Builder
		for len(ip) >= 4 {
			fmt.Fprintf(&b, "%08X", binary.NativeEndian.Uint32(ip))
			ip = ip[4:]
		}
		if printed == fmt.Sprintf("%s:%04X", b.String(), a.Port) {
			return true
		}
	}
	return false
}
