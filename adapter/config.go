package adapter

import (
	"net"

	"github.com/go-delve/delve/service"
	"github.com/go-delve/delve/service/debugger"

	"github.com/darn-dev/darn/internal/guard"
	"github.com/darn-dev/darn/patcher/exe"
)

// Config is what "dlv dap" takes from its command line.
type Config struct {
	// Listen is the address for Listen: host:port, or unix:PATH.
	Listen string
	// ClientAddr is the address for Dial, as for Listen.
	ClientAddr string
	// OnlySameUser makes Listen turn away connections that belong to another
	// user, or come from another machine, and Dial those to another user of this
	// machine.
	OnlySameUser bool
	// CheckGoVersion refuses targets built by a Go version that this version
	// of Delve doesn't know.
	CheckGoVersion bool
	// DisableASLR launches targets without address space randomization.
	DisableASLR bool
	// DebugInfoDirectories are searched for debug information that is not in
	// the executable, after what Darn itself keeps of stripped programs.
	DebugInfoDirectories []string
	// WithoutResident forbids a thread of Darn's in the target, as the attribute
	// darnResident "never" of a launch or attach request does: what it would do
	// takes halts.
	WithoutResident bool

	// Guard decides on what clients ask for, nil: all is allowed.
	Guard *guard.Guard

	listener net.Listener // what the client connected to, if anything
}

// delve returns c as Delve's session takes it. The channel is closed when the
// session ends.
func (c Config) delve(disconnected chan struct{}) *service.Config {
	directories := c.DebugInfoDirectories
	if own := exe.CompanionDir(); own != "" {
		directories = append([]string{own}, directories...)
	}
	return &service.Config{
		DisconnectChan: disconnected,
		Listener:       c.listener, // for its address
		Debugger: debugger.Config{
			Backend:              "default",
			Foreground:           true,
			DebugInfoDirectories: directories,
			CheckGoVersion:       c.CheckGoVersion,
			DisableASLR:          c.DisableASLR,
		},
	}
}
