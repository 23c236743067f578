package build

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// toolexecVariable names the environment variable that makes this program play
// the part of "go build -toolexec". Its value is the directory to capture into.
const toolexecVariable = "DARN_TOOLEXEC"

// Files in the directory that is captured into.
const (
	objectFile   = "go.o"     // the linker's name for it
	packagesFile = "packages" // see savePackages
)

// hooked tells that the program calls ToolMain. One that does not and builds a
// patch would do so again as its own tool, and so on without an end.
var hooked bool

// ToolMain must be the first thing that main, or TestMain, calls. It returns at
// once unless the go command runs this program in place of one of its tools on
// behalf of Build; then it does that tool's work and exits.
func ToolMain() {
	hooked = true
	dir := os.Getenv(toolexecVariable)
	if dir == "" || len(os.Args) < 2 {
		return
	}
	err := toolexec(dir, os.Args[1], os.Args[2:])
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "darn: %v\n", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// toolexec runs a tool of the Go toolchain unchanged, except for the linker.
func toolexec(dir, tool string, args []string) error {
	if filepath.Base(tool) != "link" || len(args) == 0 || strings.HasPrefix(args[0], "-V") {
		// The C compiler comes by its name only.
		path, err := exec.LookPath(tool)
		if err != nil {
			return err
		}
		return syscall.Exec(path, append([]string{tool}, args...), os.Environ())
	}
	if c, err := readCompanionLink(dir); err != nil {
		return err
	} else if c != nil {
		return c.link(dir, tool, args)
	}
	return captureLink(dir, tool, args)
}

// captureLink runs the linker up to the point where it would hand over to an
// external linker: its object go.o, which it makes in -tmpdir, is what we are
// after. "true" plays the external linker and agrees to whatever it is asked.
// Our flags stand after those of the go command and of the user, and win.
func captureLink(dir, tool string, args []string) error {
	mainArchive := args[len(args)-1]
	if err := runLink(tool, args, "-linkmode=external", "-extld=true", "-tmpdir="+dir); err != nil {
		return err
	}
	if err := savePackages(filepath.Join(dir, packagesFile), flagValue(args, "-importcfg"), mainArchive); err != nil {
		return err
	}
	return fakeOutput(args)
}

// runLink runs the linker with flags after all others. Symbols and DWARF, which
// -ldflags may drop, are what we work with.
func runLink(tool string, args []string, flags ...string) error {
	last := len(args) - 1
	all := append(append([]string{}, args[:last]...), "-s=false", "-w=false")
	link := exec.Command(tool, append(append(all, flags...), args[last])...)
	link.Env = append(os.Environ(), toolexecVariable+"=")
	link.Stdout, link.Stderr = os.Stdout, os.Stderr
	return link.Run()
}

// fakeOutput gives the go command the output that it wants. It looks for a
// build id in it, and takes one without as it is.
func fakeOutput(args []string) error {
	return os.WriteFile(flagValue(args, "-o"), []byte("captured by darn\n"), 0o666)
}

// flagValue returns the value of a flag that the go command gives as two
// arguments.
func flagValue(args []string, name string) string {
	for i := range len(args) - 1 {
		if args[i] == name {
			return args[i+1]
		}
	}
	return ""
}

// savePackages writes for each package of the program a line with its import
// path and the content part of its archive's build ID, which is a hash of what
// was compiled: packages with equal lines are the same code. The main package
// has the path "main", as in the names of its symbols.
func savePackages(path, importcfg, mainArchive string) error {
	cfg, err := os.ReadFile(importcfg)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	for line := range strings.Lines(string(cfg)) {
		spec, ok := strings.CutPrefix(strings.TrimSpace(line), "packagefile ")
		pkg, archive, _ := strings.Cut(spec, "=")
		if !ok || archive == mainArchive {
			continue
		}
		id, err := contentID(archive)
		if err != nil {
			return err
		}
		fmt.Fprintf(&out, "%s %s\n", pkg, id)
	}
	id, err := contentID(mainArchive)
	if err != nil {
		return err
	}
	fmt.Fprintf(&out, "main %s\n", id)
	return os.WriteFile(path, out.Bytes(), 0o666)
}

// contentID returns the content part (the last of those that slashes separate)
// of the build ID in the header of a compiled archive.
func contentID(archive string) (string, error) {
	f, err := os.Open(archive)
	if err != nil {
		return "", err
	}
	defer f.Close()
	head := make([]byte, 1024) // the header, with the ID, is in the first few lines
	n, err := f.Read(head)
	if err != nil {
		return "", err
	}
	_, rest, _ := bytes.Cut(head[:n], []byte("\nbuild id \""))
	id, _, ok := bytes.Cut(rest, []byte{'"'})
	if !ok {
		return "", fmt.Errorf("no build id in %s", archive)
	}
	return string(id[bytes.LastIndexByte(id, '/')+1:]), nil
}
