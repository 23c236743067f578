// Package adapter is the debug adapter: the only place that knows the debug
// adapter protocol and Delve's session.
//
// It stands between the client and a session of Delve's in the same process.
// Everything that is not Darn's passes through as it is, so that a client sees
// what "dlv dap" would show it; the requests darn/… are answered here, on the
// target that the session debugs, in every state the session may be in.
//
//	client ── proxy ──────────────── Delve's Session ── debugger ── target
//	            └─ darn/… ─ Engine ─ process ───────────────┘
//
// A program of C has no goroutines, and Delve's session no threads: see threads.go
// for how it is made to serve them all the same.
//
// See halter.go for how the target is halted without the client noticing.
package adapter
