package exe

import (
	"fmt"
	"go/version"
	"slices"
	"strings"

	"github.com/darn-dev/darn/patcher/finding"
)

// The Go releases whose programs Darn knows how to patch.
const (
	oldestGo = "go1.24"
	newestGo = "go1.26"
)

// instrumented names builds that the runtime keeps shadow state for.
var instrumented = map[string]string{
	"-race":  "the race detector",
	"-msan":  "the memory sanitizer",
	"-asan":  "the address sanitizer",
	"-cover": "coverage counters",
}

// experiments are the values of GOEXPERIMENT, but for a leading "no", that
// change nothing that Darn relies on: what they change is in the source of
// packages, in the compiler, which the patch is compiled by too, or in parts of
// the runtime whose layout is read from the program.
var experiments = []string{
	"aliastypeparams", "coverageredesign", "dwarf5", "goroutineleakprofile", "greenteagc", "jsonv2", "loopvar", "newinliner",
	"randomizedheapbase64", "rangefunc", "regabiargs", "regabiwrappers", "simd", "sizespecializedmalloc", "spinbitmutex",
	"swissmap", "synchashtriemap", "synctest",
}

// Supported refuses, with unsupported-target or unsupported-build, a program
// that is not Go's or was built by a version or in a mode that Darn can't
// patch, and says which. A stripped executable can be asked.
func (x *Executable) Supported() error {
	info := x.BuildInfo
	if info == nil || info.GoVersion == "" {
		return finding.Refuse(finding.UnsupportedTarget,
			"the target is not a Go program, or not one built with modules by Go's own compiler (gccgo and TinyGo are others); Go code in the libraries of another program can't be patched",
			"build the target with `go build`; for a program in C or C++ give a source file in that")
	}
	get := map[string]string{}
	for _, s := range info.Settings {
		get[s.Key] = s.Value
	}
	const without = "build the target without it, or restart it with the fix"
	unsupported := func(advice, format string, args ...any) error {
		return finding.Refuse(finding.UnsupportedBuild, "the target was built "+fmt.Sprintf(format, args...), advice)
	}
	if c := get["-compiler"]; c != "gc" {
		return unsupported("build it with `go build -compiler=gc`", "by the compiler %q; only gc is supported", c)
	}
	if get["GOOS"] != "linux" || get["GOARCH"] != "amd64" {
		return unsupported("only a restart with the fix helps", "for %s/%s; only linux/amd64 is supported", get["GOOS"], get["GOARCH"])
	}
	release, _, _ := strings.Cut(info.GoVersion, " ")
	switch lang := version.Lang(release); {
	case lang == "":
		return unsupported("build it with a release of Go", "by %s, which is no release of Go; %s to %s are supported", info.GoVersion, oldestGo, newestGo[2:])
	case version.Compare(lang, oldestGo) < 0:
		return unsupported("build it with a newer Go", "by %s; the oldest Go whose runtime Darn knows is %s", release, oldestGo[2:])
	case version.Compare(lang, newestGo) > 0:
		return unsupported("build it with Go "+newestGo[2:]+", or get a newer Darn", "by %s; the newest Go whose runtime Darn knows is %s", release, newestGo[2:])
	}
	for _, flag := range []string{"-race", "-msan", "-asan", "-cover"} {
		if get[flag] == "true" {
			return unsupported(without, "with %s (%s), whose bookkeeping new code cannot join", flag, instrumented[flag])
		}
	}
	if mode := get["-buildmode"]; mode != "exe" && mode != "pie" {
		return unsupported("build it as a program of its own", "with -buildmode=%s; only exe and pie are supported", mode)
	}
	if libraries, err := x.elf.ImportedLibraries(); err == nil && slices.Contains(libraries, "libstd.so") {
		return unsupported(without, "with -linkshared: the Go runtime is not in the program but in the library libstd.so")
	}
	for _, e := range strings.FieldsFunc(get["GOEXPERIMENT"], func(r rune) bool { return r == ',' }) {
		if !slices.Contains(experiments, strings.TrimPrefix(e, "no")) {
			return unsupported(without, "with GOEXPERIMENT=%s, which changes what Darn relies on in the runtime or the compiled code", e)
		}
	}
	if x.GoBuildID == "" {
		return finding.Refuse(finding.UnsupportedTarget,
			"the target has no Go build id, by which a module is known to be for it and no other build: it was built with -ldflags=-buildid=",
			"build the target without that; with -trimpath builds are reproducible all the same")
	}
	return nil
}
