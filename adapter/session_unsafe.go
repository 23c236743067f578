package adapter

import (
	"reflect"
	"unsafe"

	"github.com/go-delve/delve/service/api"
	"github.com/go-delve/delve/service/dap"
	"github.com/go-delve/delve/service/debugger"
)

// Delve's Session makes its debugger when it handles launch or attach, with
// all that belongs to it (building, redirecting output, removing what was
// built), and keeps it to itself. Reading that one field is what lets Darn
// leave all of this to Delve instead of repeating it.

// debuggerOffset is where a Session keeps its debugger.
var debuggerOffset = func() uintptr {
	f, ok := reflect.TypeFor[dap.Session]().FieldByName("debugger")
	if !ok || f.Type != reflect.TypeFor[*debugger.Debugger]() {
		panic("darn: this version of Delve keeps its debugger elsewhere: build with the version in go.mod")
	}
	return f.Offset
}()

// debuggerOf returns the debugger of s, nil if there is none yet. It may be
// called only where s can't be at its making: from within one of s's writes
// to its connection.
func debuggerOf(s *dap.Session) *debugger.Debugger {
	return *(**debugger.Debugger)(unsafe.Add(unsafe.Pointer(s), debuggerOffset))
}

// setLogMessage makes bp a logpoint of the session's, which writes message when
// it is hit and resumes the target when the write returns. The link fails if
// this version of Delve has no such function.
//
//go:linkname setLogMessage github.com/go-delve/delve/service/dap.setLogMessage
func setLogMessage(bp *api.Breakpoint, message string) error
