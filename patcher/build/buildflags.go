package build

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/darn-dev/darn/patcher/exe"
	"github.com/darn-dev/darn/patcher/finding"
)

// settings is how the target was built, as far as its build information tells.
type settings struct {
	// version is the toolchain's, such as "go1.26.8".
	version string
	// pkg is the main package's import path, "" if the program was built from
	// a list of files. test tells that it is the package's test.
	pkg  string
	test bool
	// flags and env reproduce the build; of the user's GOFLAGS only what
	// goFlags keeps goes with them.
	flags []string
	env   []string
	// revision is the git revision that the target was built from, "" if it is
	// not known; modified tells that there were uncommitted changes.
	revision string
	modified bool
}

// instrumented names builds that the runtime keeps shadow state for.
var instrumented = map[string]string{
	"-race":  "the race detector",
	"-msan":  "the memory sanitizer",
	"-asan":  "the address sanitizer",
	"-cover": "coverage counters",
}

// isTest tells whether an executable was made by "go test": its main function
// is in a file that the go command writes. The build information doesn't say.
func isTest(x *exe.Executable) bool {
	main, ok, _ := x.Symbol("main.main")
	if !ok {
		return false
	}
	_, file, _, err := x.FuncLine(main.Addr)
	return err == nil && filepath.Base(file) == "_testmain.go"
}

// settingsOf reads the build information of a program, which test tells to be
// a package's test. Builds that cannot be patched are refused with
// unsupported-build.
func settingsOf(info *debug.BuildInfo, test bool) (*settings, error) {
	if info == nil || info.GoVersion == "" {
		return nil, finding.Refuse(finding.UnsupportedTarget,
			"the target has no Go build information: it is not a Go program, or was built without modules",
			"build the target with `go build`")
	}
	get := map[string]string{}
	for _, s := range info.Settings {
		get[s.Key] = s.Value
	}
	unsupported := func(format string, args ...any) error {
		return finding.Refuse(finding.UnsupportedBuild, fmt.Sprintf(format, args...), "build the target without it, or restart it with the fix")
	}
	for _, flag := range []string{"-race", "-msan", "-asan", "-cover"} {
		if get[flag] == "true" {
			return nil, unsupported("the target was built with %s (%s), whose bookkeeping new code cannot join", flag, instrumented[flag])
		}
	}
	if c := get["-compiler"]; c != "gc" {
		return nil, unsupported("the target was built by the compiler %q; only gc is supported", c)
	}
	mode := get["-buildmode"]
	if mode != "exe" && mode != "pie" {
		return nil, unsupported("the target was built with -buildmode=%s; only exe and pie are supported", mode)
	}
	if get["GOOS"] != "linux" || get["GOARCH"] != "amd64" {
		return nil, unsupported("the target was built for %s/%s; only linux/amd64 is supported", get["GOOS"], get["GOARCH"])
	}

	s := &settings{pkg: info.Path, test: test, revision: get["vcs.revision"], modified: get["vcs.modified"] == "true"}
	s.version, _, _ = strings.Cut(info.GoVersion, " X:")
	if get["vcs"] != "git" {
		s.revision, s.modified = "", false
	}
	if s.pkg == "command-line-arguments" {
		s.pkg = ""
	}
	if test {
		s.pkg = strings.TrimSuffix(s.pkg, ".test") // which the test of a main package does not have
	}

	s.flags = []string{"-buildmode=" + mode, "-buildvcs=false"}
	for _, name := range []string{"-trimpath", "-tags", "-gcflags", "-asmflags", "-ldflags"} {
		if value := get[name]; value != "" {
			s.flags = append(s.flags, name+"="+value)
		}
	}
	pgo, err := profile(get["-pgo"])
	if err != nil {
		return nil, err
	}
	s.flags = append(s.flags, "-pgo="+pgo)

	s.env = []string{"GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=" + get["CGO_ENABLED"], "GOEXPERIMENT=" + get["GOEXPERIMENT"]}
	for _, name := range []string{"GOAMD64", "GOFIPS140", "CGO_CFLAGS", "CGO_CPPFLAGS", "CGO_CXXFLAGS", "CGO_LDFLAGS"} {
		// With -trimpath they aren't recorded: then the user's hold.
		if value, ok := get[name]; ok {
			s.env = append(s.env, name+"="+value)
		}
	}
	return s, nil
}

// profile returns the value of -pgo for the profile that the target was built
// with.
func profile(recorded string) (string, error) {
	if recorded == "" {
		return "off", nil
	}
	if filepath.IsAbs(recorded) {
		if _, err := os.Stat(recorded); err == nil {
			return recorded, nil
		}
	}
	if filepath.Base(recorded) == "default.pgo" {
		return "auto", nil
	}
	return "", finding.Refuse(finding.UnsupportedBuild,
		fmt.Sprintf("the target was built with the profile %s, which is not here: without it the compiler makes other code", recorded),
		"put the profile back, or name it default.pgo in the main package and build the target with that")
}

// goFlags returns those of the user's GOFLAGS that tell the go command where to
// find things rather than what to make of them: that is the target's to say.
func goFlags(user string) string {
	var kept []string
	for _, flag := range splitQuoted(user) {
		name, _, _ := strings.Cut(strings.TrimLeft(flag, "-"), "=")
		switch name {
		case "mod", "modfile", "modcacherw", "p":
			if strings.ContainsAny(flag, " \t") {
				flag = "'" + flag + "'"
			}
			kept = append(kept, flag)
		}
	}
	return strings.Join(kept, " ")
}

// splitQuoted splits at spaces that are not in quotes, as the go command splits
// GOFLAGS: a quote counts at the beginning of a field only.
func splitQuoted(s string) []string {
	var fields []string
	for {
		s = strings.TrimLeft(s, " \t\r\n")
		if s == "" {
			return fields
		}
		var field string
		if s[0] == '\'' || s[0] == '"' {
			field, s, _ = strings.Cut(s[1:], s[:1])
		} else if end := strings.IndexAny(s, " \t\r\n"); end >= 0 {
			field, s = s[:end], s[end:]
		} else {
			field, s = s, ""
		}
		fields = append(fields, field)
	}
}
