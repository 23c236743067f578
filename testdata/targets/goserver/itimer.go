package main

import (
	"syscall"
	"unsafe"
)

// setitimer asks for a SIGALRM every so many microseconds.
func setitimer(micros int64) syscall.Errno {
	v := struct{ interval, value syscall.Timeval }{syscall.Timeval{Usec: micros}, syscall.Timeval{Usec: micros}}
	_, _, errno := syscall.Syscall(syscall.SYS_SETITIMER, 0, uintptr(unsafe.Pointer(&v)), 0)
	return errno
}
