package dapclient

import (
	"context"
	"encoding/json"

	"github.com/google/go-dap"
)

// Initialize begins a session and returns the adapter's capabilities as they
// came.
func (c *Client) Initialize(ctx context.Context) (capabilities map[string]json.RawMessage, err error) {
	err = c.Call(ctx, "initialize", dap.InitializeRequestArguments{
		AdapterID:                    "go",
		PathFormat:                   "path",
		LinesStartAt1:                true,
		ColumnsStartAt1:              true,
		SupportsVariableType:         true,
		SupportsVariablePaging:       true,
		SupportsRunInTerminalRequest: true,
		Locale:                       "en-us",
	}, &capabilities)
	return capabilities, err
}

// Start launches or attaches (command) and waits until the adapter takes
// breakpoints. Configured ends that phase.
func (c *Client) Start(ctx context.Context, command string, arguments any) error {
	seq, err := c.Send(command, arguments)
	if err != nil {
		return err
	}
	if err := c.Await(ctx, seq, nil); err != nil {
		return err
	}
	_, err = c.Event(ctx, nil, "initialized")
	return err
}

// Configured lets the target run for the first time.
func (c *Client) Configured(ctx context.Context) error {
	return c.Call(ctx, "configurationDone", nil, nil)
}

// Attach begins a session of the type darn with a running process, which runs again
// when Attach returns.
func (c *Client) Attach(ctx context.Context, pid int) error {
	if _, err := c.Initialize(ctx); err != nil {
		return err
	}
	if err := c.Start(ctx, "attach", map[string]any{"type": "darn", "mode": "local", "processId": pid}); err != nil {
		return err
	}
	return c.Configured(ctx)
}

// Disconnect ends the session. The target goes on if it was attached to,
// unless terminate.
func (c *Client) Disconnect(ctx context.Context, terminate bool) error {
	if err := c.Call(ctx, "disconnect", dap.DisconnectArguments{TerminateDebuggee: terminate}, nil); err != nil {
		return err
	}
	return c.Close()
}
