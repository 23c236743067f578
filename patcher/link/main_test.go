package link

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher/exe"
	"github.com/darn-dev/darn/patcher/internal/targettest"
)

func TestMain(m *testing.M) { os.Exit(targettest.Run(m)) }

// program is a running program with what it says of itself.
type program struct {
	*ProcessTarget
	x              *exe.Executable
	types          []goType
	itab, dynamic  uint64 // of *os.File and io.Writer; of *strings.Reader and io.ByteScanner
	replacedAt     uint64
	replacedSymbol string
}

type goType struct {
	addr, size   uint64
	kind         uint8
	str, pkgPath string
}

// memory reads a process without stopping it.
type memory struct{ f *os.File }

func (m memory) ReadMemory(buf []byte, addr uint64) error {
	_, err := m.f.ReadAt(buf, int64(addr))
	return err
}

func start(t testing.TB, flags ...string) *program {
	t.Helper()
	path := targettest.Build(t, "link-types", flags...)
	target := targettest.Start(t, targettest.Command{Path: path})
	target.Line("ready ")
	x, err := exe.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/mem", target.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = f.Close()
		_ = x.Close()
	})
	p := &program{x: x, replacedSymbol: "main.replaced"}
	for line := range strings.Lines(target.Output()) {
		var y goType
		if _, err := fmt.Sscanf(line, "type %x %d %d %q %q", &y.addr, &y.kind, &y.size, &y.str, &y.pkgPath); err == nil {
			p.types = append(p.types, y)
		}
		_, _ = fmt.Sscanf(line, "itab %x", &p.itab)
		_, _ = fmt.Sscanf(line, "dynamic %x", &p.dynamic)
		_, _ = fmt.Sscanf(line, "replaced %x", &p.replacedAt)
	}
	linked, ok, _ := x.Symbol(p.replacedSymbol)
	if !ok || len(p.types) < 10 || p.itab == 0 {
		t.Fatalf("the program says:\n%s", target.Output())
	}
	if p.ProcessTarget, err = NewTarget(x, memory{f}, p.replacedAt-linked.Addr); err != nil {
		t.Fatal(err)
	}
	return p
}

// typ returns the address of a type of the program.
func (p *program) typ(t testing.TB, str string) uint64 {
	t.Helper()
	for _, y := range p.types {
		if y.str == str {
			return y.addr
		}
	}
	t.Fatalf("the program has no type %s", str)
	return 0
}
