package build

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher/finding"
)

// info is build information with the settings given as "key=value"; they win
// over those of an ordinary build.
func info(overrides ...string) *debug.BuildInfo {
	values := map[string]string{"-buildmode": "exe", "-compiler": "gc", "CGO_ENABLED": "1", "GOARCH": "amd64", "GOOS": "linux"}
	for _, o := range overrides {
		key, value, _ := strings.Cut(o, "=")
		values[key] = value
	}
	b := &debug.BuildInfo{GoVersion: "go1.26.8", Path: "example.com/server"}
	for key, value := range values {
		b.Settings = append(b.Settings, debug.BuildSetting{Key: key, Value: value})
	}
	return b
}

func TestLostProfileIsNamed(t *testing.T) {
	_, err := settingsOf(info("-pgo=/nowhere/cpu.prof"), false)
	refused(t, err, finding.UnsupportedBuild, "the profile /nowhere/cpu.prof, which is not here")
}

func TestProfileOfTheTarget(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cpu.prof")
	if err := os.WriteFile(path, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	for recorded, want := range map[string]string{"": "off", path: path, "default.pgo": "auto", "/nowhere/default.pgo": "auto"} {
		if got, err := profile(recorded); got != want || err != nil {
			t.Errorf("profile(%q) = %q, %v", recorded, got, err)
		}
	}
}

func TestOnlyFlagsThatFindThingsAreKeptOfTheUsers(t *testing.T) {
	for user, want := range map[string]string{
		"":                                     "",
		"-race -tags=x '-ldflags=-s -w'":       "",
		"-mod=vendor -trimpath":                "-mod=vendor",
		"--modfile=x.mod  -p=2 \"-gcflags=a\"": "--modfile=x.mod -p=2",
		"'-modfile=my go.mod' -o=x":            "'-modfile=my go.mod'",
		"-toolexec=wrap -overlay=x.json":       "",
	} {
		if got := goFlags(user, false); got != want {
			t.Errorf("goFlags(%q) = %q, not %q", user, got, want)
		}
	}
}

func TestLdflagsAreTheUsersIfTheTargetDoesNotKnowThem(t *testing.T) {
	if got, want := goFlags("-race '-ldflags=-s -w'", true), "'-ldflags=-s -w'"; got != want {
		t.Errorf("goFlags gives %q, not %q", got, want)
	}
	for overrides, unknown := range map[string]bool{"-trimpath=true": true, "-trimpath=": false, "-trimpath=true -ldflags=-s": false} {
		s, err := settingsOf(info(strings.Fields(overrides)...), false)
		if err != nil || s.ldflagsUnknown != unknown {
			t.Errorf("%s: %v, %v", overrides, s.ldflagsUnknown, err)
		}
	}
}

// The source is not all that makes a program what it is.
func TestWhatElseMayDifferIsNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cpu.prof")
	if err := os.WriteFile(path, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	for overrides, want := range map[string]string{"": "", "-trimpath=true": "give them with GOFLAGS=", "-pgo=" + path: "the profile " + path + ": it must be here as it was"} {
		s, err := settingsOf(info(strings.Fields(overrides)...), false)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.doubts(); !strings.Contains(got, want) || (want == "") != (got == "") {
			t.Errorf("%s: %q", overrides, got)
		}
	}
}

func TestReleaseIsTheVersionWithoutExperiments(t *testing.T) {
	for version, want := range map[string]string{"go1.25.1 X:synctest": "go1.25.1", "go1.26.8-X:jsonv2": "go1.26.8", "go1.24": "go1.24", "go1.26rc1": "go1.26rc1"} {
		if got := release(version); got != want {
			t.Errorf("%q is release %q", version, got)
		}
	}
}

func TestSettingsOfATest(t *testing.T) {
	for path, want := range map[string]string{"example.com/lib.test": "example.com/lib", "example.com/server": "example.com/server"} {
		b := info()
		b.Path = path
		s, err := settingsOf(b, true)
		if err != nil || s.pkg != want || !s.test {
			t.Errorf("%s: %+v, %v", path, s, err)
		}
	}
}

func TestEnvironmentComesFromTheTarget(t *testing.T) {
	s, err := settingsOf(info("GOAMD64=v3", "GOEXPERIMENT=nodwarf5", "CGO_CFLAGS=-O1", "vcs=git", "vcs.revision=abc", "vcs.modified=true"), false)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"GOAMD64=v3", "GOEXPERIMENT=nodwarf5", "CGO_CFLAGS=-O1", "CGO_ENABLED=1"} {
		if !slices.Contains(s.env, want) {
			t.Errorf("%s is not in %v", want, s.env)
		}
	}
	if s.revision != "abc" || !s.modified {
		t.Errorf("revision %q, modified %v", s.revision, s.modified)
	}
}

// openWithVersion opens the program of a target that was built with a version
// of Go.
func openWithVersion(t *testing.T, version string) error {
	t.Helper()
	s, err := settingsOf(info(), false)
	if err != nil {
		t.Fatal(err)
	}
	s.version = version
	_, err = openProgram(context.Background(), &Options{Dir: server(t)}, s)
	return err
}

func TestAnotherToolchainIsRefusedWhereItMayNotBeFetched(t *testing.T) {
	isolate(t)
	t.Setenv("GOTOOLCHAIN", "local")
	refused(t, openWithVersion(t, "go1.25.1"), finding.UnsupportedBuild,
		"the target was built with go1.25.1, and the go command here is "+runtime.Version()+", which GOTOOLCHAIN=local forbids to replace",
		"GOTOOLCHAIN=go1.25.1 darn build")
}

func TestWithoutAGoCommandABuildIsRefused(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	refused(t, openWithVersion(t, "go1.26.8"), finding.UnsupportedBuild, "there is no go command in PATH [unsupported-build]; ", "install go1.26.8")
}

func TestAToolchainThatCannotBeFetchedIsRefused(t *testing.T) {
	isolate(t)
	t.Setenv("GOTOOLCHAIN", "auto")
	t.Setenv("GOPROXY", "off")
	refused(t, openWithVersion(t, "go1.25.999"), finding.UnsupportedBuild,
		"the target was built with go1.25.999, and the go command here is "+runtime.Version()+", which cannot provide it")
}

func TestPackagesThatAreNotTheTargetsAreRefused(t *testing.T) {
	isolate(t)
	dir := server(t)
	write(t, dir, "tool/main.go", "package main\n\nfunc main() {}\n")
	s, err := settingsOf(info(), false)
	if err != nil {
		t.Fatal(err)
	}
	s.version = runtime.Version()
	for pkg, c := range map[string]struct {
		code finding.Code
		text string
	}{
		"./greet": {finding.UnsupportedBuild, "example.com/server/greet is not a program, but the package greet"},
		"./tool":  {finding.TextMismatch, "the target was built from the package example.com/server, not from example.com/server/tool"},
		"./...":   {finding.UnsupportedBuild, "./... is more than one package"},
	} {
		t.Run(pkg, func(t *testing.T) {
			_, err := openProgram(context.Background(), &Options{Dir: dir, Package: pkg}, s)
			refused(t, err, c.code, c.text)
		})
	}
}

func TestThePackageIsTheTargetsByDefault(t *testing.T) {
	isolate(t)
	dir := server(t)
	s, err := settingsOf(info(), false)
	if err != nil {
		t.Fatal(err)
	}
	s.version = runtime.Version()
	p, err := openProgram(context.Background(), &Options{Dir: filepath.Join(dir, "greet")}, s)
	if err != nil {
		t.Fatal(err)
	}
	if p.pkgDir != dir || p.module != dir || p.name != "server" {
		t.Errorf("%+v", p)
	}
}

func TestPathsInAnOverlayCountFromTheDirectory(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "overlay.json", `{"Replace": {"main.go": "edited.go", "gone.go": "", "/a/b.go": "/c/d.go"}}`, "broken.json", "{")
	got, err := readOverlay(dir, "overlay.json")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{filepath.Join(dir, "main.go"): filepath.Join(dir, "edited.go"), filepath.Join(dir, "gone.go"): "", "/a/b.go": "/c/d.go"}
	for path, to := range want {
		if g, ok := got[path]; !ok || g != to {
			t.Errorf("%s leads to %q", path, g)
		}
	}
	if len(got) != len(want) {
		t.Errorf("the overlay is %v", got)
	}
	if _, err := readOverlay(dir, "broken.json"); err == nil || !strings.Contains(err.Error(), "overlay broken.json") {
		t.Errorf("a broken overlay: %v", err)
	}
	if _, err := readOverlay(dir, "gone.json"); !os.IsNotExist(err) {
		t.Errorf("a missing overlay: %v", err)
	}
}
