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
	// ldflagsUnknown tells that -ldflags, if there were any, are not in the
	// build information. profile is the file of -pgo, "" for none.
	ldflagsUnknown bool
	profile        string
}

// release is a Go version without the experiments that are named after it:
// "go1.25 X:synctest", "go1.26-X:jsonv2".
func release(version string) string {
	version, _, _ = strings.Cut(version, " X:")
	version, _, _ = strings.Cut(version, "-X:")
	return version
}

// doubts says what else than the source may differ from the target, as an
// advice that begins with "; ", or nothing.
func (s *settings) doubts() string {
	var text string
	if s.ldflagsUnknown {
		text += "; the target was built with -trimpath, which leaves -ldflags out of its build information: " +
			"if there were flags like -X, give them with GOFLAGS='-ldflags=…'"
	}
	if s.profile != "" {
		text += "; the target was built with the profile " + s.profile + ": it must be here as it was"
	}
	return text
}

// isTest tells whether an executable was made by "go test": its main function
// is in a file that the go command writes. The build information doesn't say.
func isTest(x *exe.Executable) bool {
	return filepath.Base(x.FileOf("main.main")) == "_testmain.go"
}

// settingsOf reads the build information of a program that is Supported, which
// test tells to be a package's test. What is not here any more and was part of
// the build is refused with unsupported-build.
func settingsOf(info *debug.BuildInfo, test bool) (*settings, error) {
	get := map[string]string{}
	for _, s := range info.Settings {
		get[s.Key] = s.Value
	}
	s := &settings{pkg: info.Path, test: test, revision: get["vcs.revision"], modified: get["vcs.modified"] == "true"}
	s.version = release(info.GoVersion)
	s.ldflagsUnknown = get["-trimpath"] == "true" && get["-ldflags"] == ""
	if get["vcs"] != "git" {
		s.revision, s.modified = "", false
	}
	if s.pkg == "command-line-arguments" {
		s.pkg = ""
	}
	if test {
		s.pkg = strings.TrimSuffix(s.pkg, ".test") // which the test of a main package does not have
	}

	s.flags = []string{"-buildmode=" + get["-buildmode"], "-buildvcs=false"}
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
	s.profile = get["-pgo"]

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
// find things rather than what to make of them: that is the target's to say,
// unless it doesn't know its ldflags.
func goFlags(user string, ldflags bool) string {
	var kept []string
	for _, flag := range splitQuoted(user) {
		name, _, _ := strings.Cut(strings.TrimLeft(flag, "-"), "=")
		switch {
		case name == "mod", name == "modfile", name == "modcacherw", name == "p", name == "ldflags" && ldflags:
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
