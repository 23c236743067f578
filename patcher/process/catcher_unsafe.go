package process

import (
	"bytes"
	"sync"
	"unsafe"
)

// catcherAddress returns where in this process the code is that catcher_amd64.s holds.
func catcherAddress() uintptr

// catcherCode returns the code of the catcher: it runs at any address.
var catcherCode = sync.OnceValue(func() []byte {
	const enough = 1024
	at := catcherAddress()
	// The text of this process, which is no memory of Go's.
	text := unsafe.Slice(*(**byte)(unsafe.Pointer(&at)), enough)
	n := bytes.Index(text, []byte("darn.end"))
	if n < 0 {
		panic("process: the catcher has no end")
	}
	return bytes.Clone(text[:n])
})
