package resident

import (
	"encoding/binary"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// page is what Darn and the thread share. The offsets are those of layout.h.
type page []byte

const (
	stateAt    = 0  // of the conversation; both wait for it to change
	tidAt      = 4  // the thread's id, 0 when it has ended: the kernel writes it
	countAt    = 8  // of requests
	pidAt      = 12 // the process that the thread is in
	timeoutAt  = 16 // after which the thread looks whether its Darn lives
	signalsAt  = 32 // all of them
	fileAt     = 40 // the target's descriptor of the memfd
	nameAt     = 48 // of the thread
	lockAt     = 96 // what in the file Darn has locked
	tlsAt      = 128
	requestsAt = 256

	requestSize = 64
	maxRequests = 56
)

// The states. Darn makes answered idle and idle asked; the thread makes asked
// running and running answered. Either makes idle leaving, whichever comes first:
// the thread when its Darn is gone.
const (
	idle     = 1
	asked    = 2
	running  = 3
	answered = 4
	leaving  = 5
)

// request is a system call, or with the flag exchange an atomic exchange of the
// eight bytes at the first argument from the second to the third.
type request struct {
	number uint32
	flags  uint32
	args   [6]uint64
	result int64 // -errno if it has failed
}

// The flags of a request.
const (
	always   = 1 // made also if one before it has failed
	exchange = 2
)

func (p page) word(at int) *atomic.Uint32 { return (*atomic.Uint32)(unsafe.Pointer(&p[at])) }

func (p page) state() *atomic.Uint32 { return p.word(stateAt) }

func (p page) tid() int { return int(p.word(tidAt).Load()) }

// clear makes the page ready for a thread.
func (p page) clear(pid int, file, lock uint64) {
	clear(p)
	le := binary.LittleEndian
	le.PutUint32(p[pidAt:], uint32(pid))
	le.PutUint64(p[timeoutAt:], 1)
	le.PutUint64(p[signalsAt:], ^uint64(0))
	le.PutUint32(p[fileAt:], uint32(file))
	copy(p[nameAt:], "darn")
	le.PutUint64(p[lockAt:], lock)
	p.state().Store(idle)
}

// put writes requests, none of which has a result yet.
func (p page) put(requests []request) {
	le := binary.LittleEndian
	for i, r := range requests {
		b := p[requestsAt+i*requestSize:][:requestSize]
		le.PutUint32(b, r.number)
		le.PutUint32(b[4:], r.flags)
		for k, arg := range r.args {
			le.PutUint64(b[8+8*k:], arg)
		}
		var notMade = -int64(unix.ECANCELED)
		le.PutUint64(b[56:], uint64(notMade))
	}
	le.PutUint32(p[countAt:], uint32(len(requests)))
}

// take reads the results, and leaves nothing of the requests: an address in one
// would look like a reference to what is there.
func (p page) take(requests []request) {
	for i := range requests {
		b := p[requestsAt+i*requestSize:][:requestSize]
		requests[i].result = int64(binary.LittleEndian.Uint64(b[56:]))
		clear(b)
	}
}

// wake wakes who waits for the state.
func (p page) wake() {
	const wake = 1 // FUTEX_WAKE
	_, _, _ = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&p[stateAt])), wake, 1, 0, 0, 0)
}

// await returns when the state is no more what it was, or after a while.
func (p page) await(was uint32, d time.Duration) {
	const wait = 0 // FUTEX_WAIT
	timeout := unix.NsecToTimespec(int64(d))
	_, _, _ = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&p[stateAt])), wait, uintptr(was), uintptr(unsafe.Pointer(&timeout)), 0, 0)
}
