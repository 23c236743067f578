package adapter

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A module for a C program goes through the same requests.
func TestPatchOfACProgram(t *testing.T) {
	dir := t.TempDir()
	exe, source, module := filepath.Join(dir, "shop"), filepath.Join(dir, "fix.c"), filepath.Join(dir, "fix.so")
	if err := os.WriteFile(source, []byte("extern int rate, sold;\nint total(int n)\n{\n\tsold++;\n\treturn n * 100 + rate;\n}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	compileShop(t, exe)
	compile(t, "gcc", "-g", "-O2", "-shared", "-fPIC", "-o", module, source)
	target := start(t, exec.Command(exe))
	c, _ := session(t)
	c.attach(target.Process.Pid)
	c.configured()
	c.story(module, " total=20 ", " total=410 ", func(want string) { t.Helper(); target.says(t, want) })
	c.disconnect(false)
	target.says(t, " wrong=0")
}

// A session that patches nothing leaves the program able to load a library.
func TestADisconnectLeavesNothingInTheDynamicLinker(t *testing.T) {
	dir := t.TempDir()
	exe, source := filepath.Join(dir, "opener"), filepath.Join(dir, "opener.c")
	if err := os.WriteFile(source, []byte(`#include <dlfcn.h>
#include <stdio.h>
#include <unistd.h>
int main(void)
{
	for (int n = 0;; n++) {
		void *library = dlopen("libm.so.6", RTLD_NOW);
		printf("opened %s\n", library ? "it" : dlerror());
		fflush(stdout);
		dlclose(library);
		usleep(20000);
	}
}
`), 0o644); err != nil {
		t.Fatal(err)
	}
	compile(t, "gcc", "-g", "-o", exe, source)
	target := start(t, exec.Command(exe))
	opens := func() {
		t.Helper()
		seen := len(target.out.String())
		eventually(t, "the program opens a library", func() bool { return strings.Count(target.out.String()[seen:], "opened it\n") > 2 })
	}
	opens()
	c, _ := session(t)
	c.attach(target.Process.Pid)
	c.configured()
	opens()
	c.disconnect(false)
	opens()
}

// A module for a C program with a library that this has not loaded.
func TestALibraryIsLoadedWhenTheConsoleAsksForIt(t *testing.T) {
	dir := t.TempDir()
	exe, library, module := filepath.Join(dir, "shop"), filepath.Join(dir, "libextra.so"), filepath.Join(dir, "fix.so")
	for name, source := range map[string]string{"extra.c": "int extra(void) { return 400; }\n", "fix.c": "int extra(void); int total(int n) { return extra() + n; }\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(source), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	compileShop(t, exe)
	compile(t, "gcc", "-shared", "-fPIC", "-Wl,-soname,libextra.so", "-o", library, filepath.Join(dir, "extra.c"))
	compile(t, "gcc", "-g", "-O2", "-shared", "-fPIC", "-o", module, filepath.Join(dir, "fix.c"), library, "-Wl,-rpath,$ORIGIN")
	target := start(t, exec.Command(exe))
	c, _ := session(t)
	c.attach(target.Process.Pid)
	c.configured()
	target.says(t, " total=20 ")
	if said := c.evaluate("darn load --dlopen " + module); !strings.Contains(said, "loaded") {
		t.Fatalf("load --dlopen says %q", said)
	}
	if said := c.evaluate("darn activate 1"); !strings.Contains(said, "active") {
		t.Fatalf("activate says %q", said)
	}
	target.says(t, " total=404 ")
	c.disconnect(false)
	target.says(t, " total=404 ")
}
