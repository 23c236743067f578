package module

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher/finding"
)

func TestWhatIsWrittenReadsBackEqual(t *testing.T) {
	for name, m := range map[string]*Module{"sample": sample(), "compiled": compiled(t)} {
		t.Run(name, func(t *testing.T) {
			data := encoded(t, m)
			got, err := Read(data)
			if err != nil {
				t.Fatal(err)
			}
			if again := encoded(t, got); !bytes.Equal(data, again) {
				t.Error("writing what was read gives other bytes")
			}
			if got.ID() != m.ID() || len(got.ID()) != 64 {
				t.Errorf("the ID is %q before and %q after", m.ID(), got.ID())
			}
			got.digest = m.digest
			want := *m
			want.Symbols, want.Relocs = m.ordered()
			for i := range want.Segments {
				if len(want.Segments[i].Data) == 0 {
					want.Segments[i].Data, got.Segments[i].Data = nil, nil
				}
			}
			if len(want.Relocs) == 0 {
				want.Relocs = nil
			}
			if !reflect.DeepEqual(got, &want) {
				t.Errorf("read:\n%+v\nwritten:\n%+v", got, &want)
			}
		})
	}
}

func TestWritingIsDeterministic(t *testing.T) {
	first := encoded(t, sample())
	for range 20 {
		if !bytes.Equal(first, encoded(t, sample())) {
			t.Fatal("two writes of one module differ")
		}
	}
}

func TestOrderOfSymbolsAndRelocationsDoesNotMatter(t *testing.T) {
	m := sample()
	n := len(m.Symbols)
	for i := range n / 2 {
		m.Symbols[i], m.Symbols[n-1-i] = m.Symbols[n-1-i], m.Symbols[i]
	}
	for i := range m.Relocs {
		if m.Relocs[i].Symbol >= 0 {
			m.Relocs[i].Symbol = n - 1 - m.Relocs[i].Symbol
		}
	}
	m.Relocs[0], m.Relocs[3] = m.Relocs[3], m.Relocs[0]
	got, err := Read(encoded(t, m))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"main.other", "runtime.tlsg", "", "type:main.T"} {
		if r := got.Relocs[i]; (r.Symbol < 0) != (want == "") || r.Symbol >= 0 && got.Symbols[r.Symbol].Name != want {
			t.Errorf("relocation %d at %#x no longer leads to %q", i, r.Addr, want)
		}
	}
}

// The tools that people look into a module with say what is in it and
// complain of nothing.
func TestOrdinaryToolsReadAModule(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.so")
	if err := compiled(t).WriteFile(path); err != nil {
		t.Fatal(err)
	}
	plain := filepath.Join(t.TempDir(), "sample.so")
	if err := sample().WriteFile(plain); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path    string
		command string
		want    []string
	}{
		{path, "readelf -aW", []string{"DYN (Shared object file)", "LOAD", "Darn", "answer", "main.other", ".debug_info"}},
		{path, "readelf --debug-dump=info", []string{"DW_AT_name", "twice"}},
		{path, "nm", []string{"T answer", "t twice", "U main.other"}},
		{path, "objdump -d", []string{"<answer>:", "<twice>:", "ret"}},
		{path, "gdb -batch -nx -ex 'info functions' -ex 'info line answer'", []string{"int answer(int);", "static int twice(int);", `Line 2 of "`}},
		{plain, "readelf -aW", []string{"R_X86_64_PC32", "R_X86_64_TPOFF32", "R_X86_64_RELATIVE", "R_X86_64_64", "main.other - 4"}},
		{plain, "nm", []string{"T main.answer", "U type:main.T", "a runtime.types"}},
		{plain, "objdump -d", []string{"<main.answer>:", "<main.local>:"}},
	} {
		t.Run(strings.Fields(c.command)[0]+" "+filepath.Base(c.path), func(t *testing.T) {
			var out, complaints bytes.Buffer
			cmd := exec.Command("sh", "-c", c.command+` "$0"`, c.path)
			cmd.Stdout, cmd.Stderr = &out, &complaints
			if err := cmd.Run(); err != nil {
				t.Fatalf("%v: %s", err, complaints.String())
			}
			if complaints.Len() > 0 || strings.Contains(strings.ToLower(out.String()), "warning") {
				t.Errorf("it complains: %s%s", complaints.String(), out.String())
			}
			for _, want := range c.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("%q is not in\n%s", want, out.String())
				}
			}
		})
	}
}

func TestWriteFileIsAllOrNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "m.so")
	if err := os.WriteFile(path, []byte("before"), 0o600); err != nil {
		t.Fatal(err)
	}
	bad := sample()
	bad.Segments[0].Flags |= elf.PF_W
	if err := bad.WriteFile(path); finding.CodeOf(err) != finding.ModuleMalformed {
		t.Fatalf("a module that Read would refuse was written: %v", err)
	}
	if got, _ := os.ReadFile(path); string(got) != "before" {
		t.Errorf("a failed write left %q", got)
	}
	if err := sample().WriteFile(path); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode() != 0o644 {
		t.Errorf("the mode is %v", st.Mode())
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
	m, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if m.ID() != sample().ID() {
		t.Error("the file has another ID than the module")
	}
}

func TestWriteFileRemovesItsTemporaryWhenRenamingFails(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "m.so")
	if err := os.MkdirAll(filepath.Join(path, "occupied"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := sample().WriteFile(path); err == nil {
		t.Fatal("a directory was overwritten")
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

func TestAModuleOutlivesItsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.so")
	if err := sample().WriteFile(path); err != nil {
		t.Fatal(err)
	}
	m, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	before := m.ID()
	if err := os.WriteFile(path, bytes.Repeat([]byte{0xcc}, 1<<16), 0o644); err != nil {
		t.Fatal(err)
	}
	if m.ID() != before || m.Segments[0].Data[0] != 0xe8 {
		t.Error("overwriting the file altered the module that was read")
	}
}
