package resident

import (
	"bytes"
	"sync"
	"unsafe"
)

// codeAddress returns where in this process the code is that code_amd64.s holds.
func codeAddress() uintptr

// codeEnd is what the code ends with.
var codeEnd = []byte("darn.end")

// code returns the code of the thread: it runs at any address.
var code = sync.OnceValue(func() []byte {
	const enough = 1024
	at := codeAddress()
	// The text of this process, which is no memory of Go's.
	text := unsafe.Slice(*(**byte)(unsafe.Pointer(&at)), enough)
	n := bytes.Index(text, codeEnd)
	if n < 0 {
		panic("resident: its code has no end")
	}
	return bytes.Clone(text[:n])
})
