// Package cbuild makes a module of C or C++ source: it has the system's compiler
// make a shared object, and adds the manifest that says for which build of which
// program it is, which of its functions it replaces, and what code they had.
package cbuild

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/darn-dev/darn/patcher/clink"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/loaded"
	"github.com/darn-dev/darn/patcher/module"
)

// Options say what to build.
type Options struct {
	Source string   // a file of C or C++
	Target string   // the program's executable
	Pid    int      // or a process of it, whose libraries are known too
	Output string   // "": the source's name with .so, in the working folder
	Flags  []string // for the compiler
	// Functions are what is replaced, as name or file.c:name; what is not named
	// here is found by its name. Symbols says the same of what the source only
	// declares.
	Functions, Symbols []string
	// Sign is the key that the module is signed with, nil for none.
	Sign ed25519.PrivateKey
}

// Result is a module that was built.
type Result struct {
	Path      string            `json:"path"`
	Functions []module.Function `json:"functions"`
	Findings  []finding.Finding `json:"findings"`
	// What follows is of a BuildChange only: what the edit was compared with, and
	// where the compiler's flags come from, in words; and what becomes of each
	// function that the edit touched.
	Base     string           `json:"base,omitempty"`
	Notes    []string         `json:"notes,omitempty"`
	Verdicts []module.Verdict `json:"verdicts,omitempty"`
}

// IsSource tells whether a path names a file of C or C++.
func IsSource(path string) bool {
	return slices.Contains([]string{".c", ".cc", ".cpp", ".cxx", ".C"}, filepath.Ext(path))
}

// compiler returns the compiler for a source file: CC, CXX or the system's.
func compiler(source string) string {
	if filepath.Ext(source) == ".c" {
		return cmp.Or(os.Getenv("CC"), "cc")
	}
	return cmp.Or(os.Getenv("CXX"), "c++")
}

// Build builds a module. It is refused as the loading of it would be, with
// symbol-unresolved, symbol-ambiguous and the other codes of binding; what the
// compiler says is an error of its own.
func Build(ctx context.Context, o Options) (*Result, error) {
	target := o.Target
	if o.Pid != 0 {
		target = fmt.Sprintf("/proc/%d/exe", o.Pid)
	}
	set, err := loaded.Files(target, o.Pid)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "darn-build-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	program := set.Objects[0]
	if program.Static() {
		// There may be nobody who could find a thread's block.
		o.Flags = append([]string{"-ftls-model=initial-exec"}, o.Flags...)
	}
	plain := filepath.Join(dir, "plain.so")
	if err := o.compile(ctx, plain); err != nil {
		return nil, err
	}
	m, err := module.Open(plain)
	if err != nil {
		return nil, err
	}
	functions, findings, err := clink.Match(m, set, o.Functions)
	if err != nil {
		return nil, err
	}
	for i := range functions {
		f := &functions[i]
		sum := sha256.Sum256(f.Code)
		f.Function.SHA256 = hex.EncodeToString(sum[:])
	}
	manifest := module.Manifest{
		Format: module.FormatVersion, Language: "c",
		Name:     strings.TrimSuffix(filepath.Base(o.Source), filepath.Ext(o.Source)),
		Target:   module.Target{GNUBuildID: program.BuildID, Path: program.Path},
		Findings: findings,
	}
	result := &Result{Path: o.output(), Findings: findings}
	for _, f := range functions {
		manifest.Functions = append(manifest.Functions, f.Function)
	}
	for _, s := range o.Symbols {
		file, name := clink.Split(s)
		if file == "" {
			return nil, fmt.Errorf("%q does not say which: give FILE.c:%s", s, name)
		}
		manifest.Bindings = append(manifest.Bindings, module.Binding{Symbol: name, Target: s})
	}
	result.Functions = manifest.Functions
	note, err := writeNote(dir, &manifest)
	if err != nil {
		return nil, err
	}
	done := filepath.Join(dir, "done.so")
	if err := o.compile(ctx, done, note); err != nil {
		return nil, err
	}
	if _, err := module.Open(done); err != nil {
		return nil, err
	}
	return result, install(done, result.Path, o.Sign)
}

func (o *Options) output() string {
	if o.Output != "" {
		return o.Output
	}
	base := filepath.Base(o.Source)
	return strings.TrimSuffix(base, filepath.Ext(base)) + ".so"
}

// compile runs the compiler.
func (o *Options) compile(ctx context.Context, out string, more ...string) error {
	args := slices.Concat([]string{"-shared", "-fPIC", "-g", "-O2"}, o.Flags, []string{"-o", out, o.Source}, more)
	cmd := exec.CommandContext(ctx, compiler(o.Source), args...)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(output.Bytes()))
	}
	return nil
}

// writeNote writes assembly source of a section that holds the manifest.
func writeNote(dir string, m *module.Manifest) (path string, err error) {
	data, err := json.Marshal(m)
	if err != nil {
		return "", err
	}
	text := filepath.Join(dir, "manifest")
	if err := os.WriteFile(text, data, 0o600); err != nil {
		return "", err
	}
	path = filepath.Join(dir, "note.s")
	source := fmt.Sprintf(`	.section .note.darn, "a", @note
	.balign 4
	.long 5, %d, 1
	.asciz "Darn"
	.balign 4
	.incbin "%s"
	.balign 4
	.section .note.GNU-stack, "", @progbits
`, len(data), text)
	return path, os.WriteFile(path, []byte(source), 0o600)
}

// install copies a module to where it is to be, in one step, and signs it if key
// is not nil.
func install(from, to string, key ed25519.PrivateKey) error {
	data, err := os.ReadFile(from)
	if err == nil && key != nil {
		data, err = module.Sign(data, key)
	}
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(to), ".darn-")
	if err != nil {
		return err
	}
	_, err = tmp.Write(data)
	if err = errors.Join(err, tmp.Chmod(0o644), tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), to)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
	}
	return err
}
