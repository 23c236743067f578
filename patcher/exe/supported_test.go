package exe

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher/finding"
)

// TestUnsupportedBuildsAreNamed asks about real executables, whether stripped
// or not, and about the build information of those that take a toolchain or a
// machine that may not be here.
func TestUnsupportedBuildsAreNamed(t *testing.T) {
	ownCache(t)
	c := filepath.Join(t.TempDir(), "x.c")
	if err := os.WriteFile(c, []byte("int main(void) { return 0; }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cProgram := filepath.Join(t.TempDir(), "x")
	if output, err := exec.Command("gcc", "-o", cProgram, c).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	supported := build(t, "-ldflags=-s -w")
	for _, c := range []struct {
		name, path string
		settings   string // replaced in the build information
		code       finding.Code
		words      string
	}{
		{"race", build(t, "-race"), "", finding.UnsupportedBuild, "-race (the race detector)"},
		{"race, stripped", build(t, "-race", "-ldflags=-s"), "", finding.UnsupportedBuild, "-race (the race detector)"},
		{"cover", build(t, "-cover"), "", finding.UnsupportedBuild, "-cover (coverage counters)"},
		{"c-shared", build(t, "-buildmode=c-shared"), "", finding.UnsupportedBuild, "-buildmode=c-shared; only exe and pie"},
		{"experiment", buildEnv(t, []string{"GOEXPERIMENT=fieldtrack"}), "", finding.UnsupportedBuild, "GOEXPERIMENT=fieldtrack"},
		{"no build id", build(t, "-ldflags=-buildid="), "", finding.UnsupportedTarget, "-ldflags=-buildid="},
		{"C program", cProgram, "", finding.UnsupportedTarget, "not a Go program"},
		{"msan", supported, "-msan=true", finding.UnsupportedBuild, "-msan (the memory sanitizer)"},
		{"asan", supported, "-asan=true", finding.UnsupportedBuild, "-asan (the address sanitizer)"},
		{"plugin", supported, "-buildmode=plugin", finding.UnsupportedBuild, "-buildmode=plugin"},
		{"c-archive", supported, "-buildmode=c-archive", finding.UnsupportedBuild, "-buildmode=c-archive"},
		{"shared", supported, "-buildmode=shared", finding.UnsupportedBuild, "-buildmode=shared"},
		{"gccgo", supported, "-compiler=gccgo", finding.UnsupportedBuild, `the compiler "gccgo"`},
		{"architecture", supported, "GOARCH=arm64", finding.UnsupportedBuild, "linux/arm64"},
		{"system", supported, "GOOS=freebsd", finding.UnsupportedBuild, "freebsd/amd64"},
		{"boringcrypto", supported, "GOEXPERIMENT=boringcrypto", finding.UnsupportedBuild, "GOEXPERIMENT=boringcrypto"},
		{"known experiments and one that is not", supported, "GOEXPERIMENT=jsonv2,nogreenteagc,arenas", finding.UnsupportedBuild, "GOEXPERIMENT=arenas"},
		{"old Go", supported, "go=go1.23.12", finding.UnsupportedBuild, "by go1.23.12; the oldest Go whose runtime Darn knows is 1.24"},
		{"new Go", supported, "go=go1.27rc1", finding.UnsupportedBuild, "by go1.27rc1; the newest Go whose runtime Darn knows is 1.26"},
		{"no release of Go", supported, "go=devel go1.27-abcdef Mon", finding.UnsupportedBuild, "devel go1.27-abcdef Mon, which is no release"},
	} {
		t.Run(c.name, func(t *testing.T) {
			x, err := OpenAny(c.path)
			if err != nil {
				t.Fatal(err)
			}
			defer x.Close()
			replaceSettings(x, c.settings)
			refused(t, x.Supported(), c.code, c.words)
		})
	}
}

func TestSupportedBuildsAreNotRefused(t *testing.T) {
	path := build(t, "-ldflags=-s -w")
	for _, settings := range []string{"", "go=go1.24", "go=go1.25.3", "go=go1.26rc2", "go=go1.26.8 X:jsonv2", "go=go1.25.1-vendor",
		"-buildmode=pie", "GOEXPERIMENT=noswissmap", "GOFIPS140=v1.0.0", "-race=false"} {
		x, err := OpenAny(path)
		if err != nil {
			t.Fatal(err)
		}
		replaceSettings(x, settings)
		if err := x.Supported(); err != nil {
			t.Errorf("%s: %v", settings, err)
		}
		x.Close()
	}
}

// replaceSettings changes a setting, given as KEY=VALUE; the Go version is "go".
func replaceSettings(x *Executable, setting string) {
	key, value, ok := strings.Cut(setting, "=")
	if !ok {
		return
	}
	if key == "go" {
		x.BuildInfo.GoVersion = value
		return
	}
	for i, s := range x.BuildInfo.Settings {
		if s.Key == key {
			x.BuildInfo.Settings[i].Value = value
			return
		}
	}
	x.BuildInfo.Settings = append(x.BuildInfo.Settings, debug.BuildSetting{Key: key, Value: value})
}

// A program built with -linkshared needs the runtime's library. Making that
// takes the whole standard library; one of the same name does here.
func TestProgramsWithASharedRuntimeAreNamed(t *testing.T) {
	dir := t.TempDir()
	source := filepath.Join(dir, "x.c")
	if err := os.WriteFile(source, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if output, err := exec.Command("gcc", "-shared", "-o", filepath.Join(dir, "libstd.so"), source).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	x, err := OpenAny(build(t, "-ldflags=-linkmode=external -extldflags '-Wl,--no-as-needed -L"+dir+" -lstd'"))
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	refused(t, x.Supported(), finding.UnsupportedBuild, "-linkshared", "libstd.so")
}
