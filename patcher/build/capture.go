package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/darn-dev/darn/patcher/finding"
)

// program is the target's main package with all that it takes to build it as
// the target was built.
type program struct {
	dir      string // where the go command runs
	settings *settings
	env      []string // beyond the process's own
	pattern  string   // the package as given to the go command
	overlay  map[string]string

	// The main package as it is now, and the folders of its module and of its
	// workspace, "" without.
	name         string
	pkgDir       string
	pkgName      string
	module, work string
	self         string // the program to give as -toolexec
}

// captured is what a build was made to leave: the object and the packages file.
type captured struct{ dir string }

func (c *captured) object() string { return filepath.Join(c.dir, objectFile) }

// packages maps import paths to hashes of what was compiled.
func (c *captured) packages() (map[string]string, error) {
	data, err := os.ReadFile(filepath.Join(c.dir, packagesFile))
	if err != nil {
		return nil, err
	}
	packages := map[string]string{}
	for line := range strings.Lines(string(data)) {
		pkg, id, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			return nil, fmt.Errorf("%s: malformed line %q", filepath.Join(c.dir, packagesFile), line)
		}
		packages[pkg] = id
	}
	return packages, nil
}

// openProgram finds the toolchain and the package.
func openProgram(ctx context.Context, o *Options, s *settings) (*program, error) {
	p := &program{dir: o.Dir, settings: s, pattern: o.Package, env: s.env}
	if p.pattern == "" {
		if p.pattern = s.pkg; p.pattern == "" {
			p.pattern = "."
		}
	}
	var err error
	if p.self, err = os.Executable(); err != nil {
		return nil, err
	}
	env, err := p.toolchain(ctx)
	if err != nil {
		return nil, err
	}
	if mod := env["GOMOD"]; mod != "" && mod != os.DevNull {
		p.module = filepath.Dir(mod)
	}
	if work := env["GOWORK"]; work != "" && work != "off" {
		p.work = filepath.Dir(work)
	}
	p.env = append(p.env, "GOFLAGS="+goFlags(env["GOFLAGS"], s.ldflagsUnknown))
	if p.overlay, err = readOverlay(o.Dir, o.Overlay); err != nil {
		return nil, err
	}
	return p, p.find(ctx)
}

// goVariables are the variables of the go command that we ask for.
var goVariables = []string{"GOVERSION", "GOTOOLCHAIN", "GOMOD", "GOWORK", "GOFLAGS"}

// toolchain makes sure that the go command is of the target's version, and
// returns goVariables.
func (p *program) toolchain(ctx context.Context) (map[string]string, error) {
	want := p.settings.version
	ask := func() (map[string]string, error) {
		out, err := command(ctx, p.dir, p.env, nil, "go", append([]string{"env", "-json"}, goVariables...)...)
		if err != nil {
			return nil, err
		}
		env := map[string]string{}
		if err := json.Unmarshal([]byte(out), &env); err != nil {
			return nil, fmt.Errorf("go env: %w", err)
		}
		env["GOVERSION"] = release(env["GOVERSION"])
		return env, nil
	}
	env, err := ask()
	if errors.Is(err, exec.ErrNotFound) {
		return nil, finding.Refuse(finding.UnsupportedBuild, "there is no go command in PATH",
			fmt.Sprintf("install %s, which the target was built with, and put it into PATH", want))
	}
	if err != nil || env["GOVERSION"] == want {
		return env, err
	}
	refuse := func(why string) error {
		return finding.Refuse(finding.UnsupportedBuild,
			fmt.Sprintf("the target was built with %s, and the go command here is %s%s", want, env["GOVERSION"], why),
			fmt.Sprintf("put %s first in PATH, or let the go command fetch it: GOTOOLCHAIN=%s darn build …", want, want))
	}
	// "local" is the user's word that no other toolchain be used.
	if env["GOTOOLCHAIN"] == "local" {
		return nil, refuse(", which GOTOOLCHAIN=local forbids to replace")
	}
	p.env = append(p.env, "GOTOOLCHAIN="+want)
	got, err := ask()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, refuse(", which cannot provide it: " + err.Error())
	}
	if got["GOVERSION"] != want {
		return nil, refuse("")
	}
	return got, nil
}

// find looks the package up and checks that it is the target's.
func (p *program) find(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "darn-build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	flags, err := p.overlayFlag(dir, p.overlay)
	if err != nil {
		return err
	}
	for _, flag := range p.settings.flags {
		if strings.HasPrefix(flag, "-tags=") {
			flags = append(flags, flag)
		}
	}
	out, err := command(ctx, p.dir, p.env, nil, "go", append(append([]string{"list", "-find", "-json=Name,ImportPath,Dir"}, flags...), "--", p.pattern)...)
	if err != nil {
		return err
	}
	var found struct{ Name, ImportPath, Dir string }
	d := json.NewDecoder(strings.NewReader(out))
	if err := d.Decode(&found); err != nil {
		return fmt.Errorf("go list: %w", err)
	}
	const advice = "name the target's main package; edits in the packages that it imports are found by themselves"
	switch {
	case d.More():
		return finding.Refuse(finding.UnsupportedBuild, fmt.Sprintf("%s is more than one package", p.pattern), advice)
	case found.Name != "main" && !p.settings.test:
		return finding.Refuse(finding.UnsupportedBuild, fmt.Sprintf("%s is not a program, but the package %s", found.ImportPath, found.Name), advice)
	case p.settings.pkg != "" && found.ImportPath != p.settings.pkg:
		return finding.Refuse(finding.TextMismatch,
			fmt.Sprintf("the target was built from the package %s, not from %s", p.settings.pkg, found.ImportPath), advice)
	}
	p.name, p.pkgDir, p.pkgName = filepath.Base(found.ImportPath), found.Dir, found.Name
	if p.module == "" {
		p.module = found.Dir
	}
	return nil
}

// localModules returns the folders of the modules that the program is made of
// and that are not in the module cache.
func (p *program) localModules(ctx context.Context, scratch string) ([]string, error) {
	flags, err := p.overlayFlag(scratch, p.overlay)
	if err != nil {
		return nil, err
	}
	const format = `{{with .Module}}{{if .Replace}}{{if not .Replace.Version}}{{.Dir}}{{end}}{{else if .Main}}{{.Dir}}{{end}}{{end}}`
	out, err := command(ctx, p.dir, p.env, nil, "go", append(append([]string{"list", "-e", "-deps", "-f", format}, flags...), "--", p.pattern)...)
	if err != nil {
		return nil, err
	}
	dirs := slices.DeleteFunc(strings.Split(out, "\n"), func(dir string) bool { return dir == "" })
	slices.Sort(dirs)
	return slices.Compact(dirs), nil
}

// capture builds the program with the overlay, up to the linker's object, and
// leaves that in dir, which must exist. compiling is told which package is
// being compiled.
func (p *program) capture(ctx context.Context, overlay map[string]string, dir string, compiling func(pkg string)) (*captured, error) {
	if err := p.build(ctx, overlay, dir, compiling); err != nil {
		return nil, err
	}
	return &captured{dir}, nil
}

// build runs the go command with ourselves in place of its tools, which is told
// the folder dir.
func (p *program) build(ctx context.Context, overlay map[string]string, dir string, compiling func(pkg string)) error {
	verb := []string{"build"}
	if p.settings.test {
		verb = []string{"test", "-c", "-vet=off"}
	}
	args := append(verb, "-v", "-o", filepath.Join(dir, "out"), "-toolexec="+quote(p.self))
	args = append(args, p.settings.flags...)
	flags, err := p.overlayFlag(dir, overlay)
	if err != nil {
		return err
	}
	args = append(append(args, flags...), "--", p.pattern)
	env := append(append([]string{}, p.env...), toolexecVariable+"="+dir,
		"GOTMPDIR="+dir, // of which the caller disposes, even when the go command was killed
	)
	_, err = command(ctx, p.dir, env, func(line string) bool {
		// With -v the go command names each package that it compiles.
		if strings.ContainsAny(line, " :#") || line == "" {
			return false
		}
		compiling(line)
		return true
	}, "go", args...)
	return err
}

// quote quotes a word for the go command's lists of words.
func quote(s string) string {
	if !strings.ContainsAny(s, " \t\"'") {
		return s
	}
	if strings.Contains(s, "'") {
		return `"` + s + `"`
	}
	return "'" + s + "'"
}

// overlayFile is the format of -overlay.
type overlayFile struct{ Replace map[string]string }

// overlayFlag writes the overlay to dir and returns the flag for it, none if
// the overlay is empty.
func (p *program) overlayFlag(dir string, overlay map[string]string) ([]string, error) {
	if len(overlay) == 0 {
		return nil, nil
	}
	data, err := json.Marshal(overlayFile{overlay})
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "overlay.json")
	return []string{"-overlay=" + path}, os.WriteFile(path, data, 0o666)
}

// readOverlay reads an overlay file; paths in it count from dir, as for the go
// command. path "" is an empty overlay.
func readOverlay(dir, path string) (map[string]string, error) {
	overlay := map[string]string{}
	if path == "" {
		return overlay, nil
	}
	absolute := func(path string) string {
		if path == "" || filepath.IsAbs(path) {
			return filepath.Clean(path)
		}
		return filepath.Join(dir, path)
	}
	data, err := os.ReadFile(absolute(path))
	if err != nil {
		return nil, err
	}
	var file overlayFile
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, fmt.Errorf("overlay %s: %w", path, err)
	}
	for from, to := range file.Replace {
		if to != "" {
			to = absolute(to)
		}
		overlay[absolute(from)] = to
	}
	return overlay, nil
}
