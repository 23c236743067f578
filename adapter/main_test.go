package adapter

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/darn-dev/darn/internal/guard"
	"github.com/darn-dev/darn/patcher"
	builder "github.com/darn-dev/darn/patcher/build"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/process"
)

// The adapter under test is a process of its own, as it is in use: it traces,
// and Delve collects all children of the process it is in. It is this test
// binary, told by the environment variable to play it.
const playAdapter = "DARN_TEST_ADAPTER"

// What the adapter's guard goes by, if not by nothing, and the user that it is to
// run as.
const (
	guardState  = "DARN_TEST_STATE"
	guardPolicy = "DARN_TEST_POLICY"
	adapterUser = "DARN_TEST_USER"
)

func TestMain(m *testing.M) {
	patcher.GuardMain()
	builder.ToolMain()
	mode := os.Getenv(playAdapter)
	if mode == "" {
		os.Exit(runTests(m))
	}
	os.Unsetenv(playAdapter) // not for the targets
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cfg := Config{Listen: "127.0.0.1:0", OnlySameUser: true, CheckGoVersion: true}
	how, addr, _ := strings.Cut(mode, " ")
	var err error
	if state := os.Getenv(guardState); state != "" {
		if cfg.Guard, err = guard.New(guard.Options{State: state, Policy: os.Getenv(guardPolicy), Warn: os.Stderr}); err != nil {
			panic(err)
		}
	}
	if uid, _ := strconv.Atoi(os.Getenv(adapterUser)); uid != 0 {
		cfg.OnlySameUser = false // the test is another
		if err := syscall.Setuid(uid); err != nil {
			panic(err)
		}
	}
	switch how {
	case "listen", "impatient":
		if cfg.Listen = addr; how == "impatient" {
			comparePatience = 3 * time.Second
		}
		err = Listen(ctx, cfg)
	case "dial":
		cfg.ClientAddr = addr
		err = Dial(ctx, cfg)
	case "stdio":
		err = ServeStdio(ctx, cfg)
	case "halts":
		err = serveHalts(ctx, cfg)
	case "counts":
		err = serveCounting(ctx, cfg)
	}
	if err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// accepted waits for a client as Listen does.
func accepted(cfg Config) (*proxy, error) {
	l, err := listen(cfg.Listen)
	if err != nil {
		return nil, err
	}
	fmt.Println("DAP server listening at:", l.Addr())
	conn, err := l.Accept()
	if err != nil {
		return nil, err
	}
	return newProxy(conn, cfg), nil
}

// serveHalts serves one session as Listen does, and halts its target as often
// as it is told to on standard input.
func serveHalts(ctx context.Context, cfg Config) error {
	p, err := accepted(cfg)
	if err != nil {
		return err
	}
	go func() {
		for s := bufio.NewScanner(os.Stdin); s.Scan(); {
			var n int
			var pause time.Duration
			if _, err := fmt.Sscan(s.Text(), &n, &pause); err != nil {
				panic(err)
			}
			fmt.Println("halts", p.haltOften(ctx, n, pause))
		}
	}()
	return p.serve(ctx)
}

// serveCounting serves one session as Listen does, and counts how often the session
// halts the running target: it does to answer requests for breakpoints, Darn's own
// among them, and for a pause. It says the count whenever it is asked on standard
// input, and begins anew.
func serveCounting(ctx context.Context, cfg Config) error {
	p, err := accepted(cfg)
	if err != nil {
		return err
	}
	var halts atomic.Int64
	deliver := p.inner.deliver
	p.inner.deliver = func(msg []byte) {
		var h header
		_ = json.Unmarshal(msg, &h)
		p.mu.Lock()
		ran := p.phase == running && p.still == nil
		p.mu.Unlock()
		if ran && (h.Type == "response" && setRequest(h.Command) || h.Event == "stopped") {
			halts.Add(1)
		}
		deliver(msg)
	}
	go func() {
		for s := bufio.NewScanner(os.Stdin); s.Scan(); {
			fmt.Println("counted", halts.Swap(0))
		}
	}()
	return p.serve(ctx)
}

// haltOften halts the target n times and does nothing in it.
func (p *proxy) haltOften(ctx context.Context, n int, pause time.Duration) string {
	h, err := p.holdSession(ctx)
	if err != nil {
		return fmt.Sprintf("failed: %v", err)
	}
	haltee, err := process.New(p.debugger, p)
	p.letGo(h)
	if err != nil {
		return fmt.Sprintf("failed: %v", err)
	}
	defer haltee.Close()
	done, busy := 0, 0
	measured := haltee.Measure()
	for range n {
		err := haltee.Halt(ctx, func(h *process.Halt) error {
			_, err := h.Threads()
			return err
		})
		switch {
		case err == nil:
			done++
		case finding.CodeOf(err) == finding.Busy:
			busy++
		default:
			return fmt.Sprintf("failed: %v", err)
		}
		time.Sleep(pause)
	}
	s := measured()
	return fmt.Sprintf("done %d busy %d running %d total %v max %v", done, busy, s.Halts, s.Total, s.Max)
}
