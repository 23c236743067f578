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
)

// checkPeer returns an error unless the other end of a connection over
// loopback belongs to the user who runs this process. Other connections are
// not checked: whoever opens the server to a network has to see to it himself.
func checkPeer(conn net.Conn) error {
	local, ok := conn.LocalAddr().(*net.TCPAddr)
	remote, ok2 := conn.RemoteAddr().(*net.TCPAddr)
	if !ok || !ok2 || !local.IP.IsLoopback() {
		return nil
	}
	uid, err := socketOwner(remote, local)
	if err != nil {
		return err
	}
	if uid != os.Getuid() {
		return fmt.Errorf("%v belongs to user %d, and only connections of user %d are served", remote, uid, os.Getuid())
	}
	return nil
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
