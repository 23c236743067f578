package goruntime

import (
	"golang.org/x/sys/unix"
)

// request is one of many reads.
type request struct {
	addr uint64
	buf  []byte
}

// maxVectors is the kernel's UIO_MAXIOV.
const maxVectors = 1024

// readAll makes many reads, a thousand in one system call: fifty thousand
// goroutines take tens of milliseconds. What can't be read that way is read
// singly.
func (r *Runtime) readAll(requests []request) error {
	local := make([]unix.Iovec, 0, maxVectors)
	remote := make([]unix.RemoteIovec, 0, maxVectors)
	for len(requests) > 0 {
		local, remote = local[:0], remote[:0]
		total := 0
		for i := range requests[:min(maxVectors, len(requests))] {
			q := &requests[i]
			if len(q.buf) == 0 {
				continue
			}
			v := unix.Iovec{Base: &q.buf[0]}
			v.SetLen(len(q.buf))
			local = append(local, v)
			remote = append(remote, unix.RemoteIovec{Base: uintptr(q.addr), Len: len(q.buf)})
			total += len(q.buf)
		}
		batch := requests[:min(maxVectors, len(requests))]
		requests = requests[len(batch):]
		n, err := unix.ProcessVMReadv(r.pid, local, remote, 0)
		if err == nil && n == total {
			continue
		}
		// It stops at the first request that fails; the system call may also
		// be forbidden (seccomp, Yama).
		done := 0
		if err == nil {
			done = n
		}
		for _, q := range batch {
			if done -= len(q.buf); done >= 0 {
				continue
			}
			if err := r.mem.ReadMemory(q.buf, q.addr); err != nil {
				return err
			}
		}
	}
	return nil
}
