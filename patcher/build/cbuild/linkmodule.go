package cbuild

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/darn-dev/darn/patcher/build"
	"github.com/darn-dev/darn/patcher/build/cobject"
	"github.com/darn-dev/darn/patcher/clink"
	"github.com/darn-dev/darn/patcher/loaded"
	"github.com/darn-dev/darn/patcher/module"
)

// record describes a function that is replaced.
func (c *change) record(old *loaded.Symbol, name string, code []byte, source, oldSource, why string) module.Function {
	sum := sha256.Sum256(code)
	return module.Function{
		Symbol: clink.Qualified(old), New: name, Offset: old.Addr - old.Object.Bias, Size: old.Size,
		SHA256: hex.EncodeToString(sum[:]), Source: source, OldSource: oldSource, Why: why,
	}
}

// link makes the module of what the objects have for it.
func (c *change) link(ctx context.Context) (*Result, error) {
	c.nameReplaced()
	manifest := module.Manifest{
		Format: module.FormatVersion, Language: "c", Name: c.name(),
		Target:   module.Target{GNUBuildID: c.program.BuildID, Path: c.program.Path},
		Findings: c.findings, Origin: module.Origin{Base: c.base, New: c.Source},
	}
	var files, roots, tables []string
	var fixups []cobject.Fixup
	driver := ""
	for i, o := range c.objects {
		if len(o.include) == 0 {
			continue
		}
		path := filepath.Join(c.dir, fmt.Sprintf("cut%d.o", i))
		names := map[int]string{}
		for section, f := range o.replaced {
			names[section] = f.New
			roots = append(roots, "-Wl,-u,"+f.New)
			manifest.Functions = append(manifest.Functions, f)
		}
		for section := range o.include {
			name := o.New.Name(section)
			if _, paired := o.Pairs[section]; !paired && o.New.IsFunction(section) && !cobject.IsClone(name) {
				manifest.Added = append(manifest.Added, module.Declared{Symbol: name, Source: o.after.Source(name)})
			}
		}
		found, table, err := o.New.Write(path, &cobject.Cut{
			Include: o.include, Names: names, Prefix: fmt.Sprintf("darn.%d", i),
			Bound: func(section int) string {
				if s := c.inProgram(o, section); s != nil {
					return c.program.name(s)
				}
				return ""
			},
			External: func(name string) string {
				if s := c.program.external(name); s != nil {
					return c.program.name(s)
				}
				return ""
			},
		})
		if err != nil {
			return nil, err
		}
		tables = append(tables, table...)
		files, fixups = append(files, path), append(fixups, found...)
		if driver == "" || filepath.Ext(o.now) != ".c" {
			driver = o.unit.is.compiler
		}
	}
	slices.SortFunc(manifest.Functions, func(a, b module.Function) int { return strings.Compare(a.Symbol, b.Symbol) })
	manifest.Bindings = c.bindings(tables)
	for _, f := range fixups {
		// Addresses are known after the link: these are longer than they can be.
		manifest.Fixups = append(manifest.Fixups, module.Fixup{Addr: module.MaxImage, Type: uint32(f.Type), Symbol: f.Symbol, Addend: f.Addend})
		if f.Own != "" {
			manifest.Fixups[len(manifest.Fixups)-1].Addend = module.MaxImage
		}
	}
	edited := c.edited()
	manifest.Sources = build.Sources(edited)
	note, err := writeNote(c.dir, &manifest)
	if err != nil {
		return nil, err
	}
	end := filepath.Join(c.dir, "end.s") // of the unwind tables, as the compiler's own files have it
	if err := os.WriteFile(end, []byte("\t.section .eh_frame, \"a\", @progbits\n\t.long 0\n\t.section .note.GNU-stack, \"\", @progbits\n"), 0o600); err != nil {
		return nil, err
	}
	out := filepath.Join(c.dir, "done.so")
	args := slices.Concat([]string{"-shared", "-nostdlib", "-Wl,--gc-sections", "-Wl,--build-id"}, roots, []string{"-o", out}, files, []string{note, "-lgcc", end})
	if err := run(ctx, c.dir, driver, args...); err != nil {
		return nil, err
	}
	if err := fill(out, &manifest, fixups); err != nil {
		return nil, err
	}
	if _, err := module.Open(out); err != nil {
		return nil, err
	}
	result := &Result{Path: c.output(), Functions: manifest.Functions, Findings: c.findings, Base: c.base, Notes: c.notes, Verdicts: manifest.Verdicts(c.findings)}
	if err := install(out, result.Path, c.Sign); err != nil {
		return nil, err
	}
	m, err := module.Open(result.Path)
	if err != nil {
		return nil, err
	}
	build.Keep(result.Path, m.ID(), edited)
	return result, nil
}

// edited returns the files that the edit changed.
func (c *change) edited() (files []build.ChangedFile) {
	seen := map[string]bool{}
	add := func(now, base string) {
		is, err := os.ReadFile(now)
		if err != nil || seen[now] {
			return // it is gone
		}
		seen[now] = true
		was, _ := os.ReadFile(base) // none: it is new
		files = append(files, build.ChangedFile{Name: now, Was: was, Is: is})
	}
	for _, o := range c.objects {
		if c.baseTree == "" {
			add(o.now, o.unit.base)
			continue
		}
		for _, rel := range o.changed {
			add(filepath.Join(c.New, rel), filepath.Join(c.baseTree, rel))
		}
	}
	return files
}

// nameReplaced gives the functions that replace others names that are there once
// in the module.
func (c *change) nameReplaced() {
	count := map[string]int{}
	for _, o := range c.objects {
		for section := range o.include {
			if o.New.IsFunction(section) {
				count[o.New.Name(section)]++
			}
		}
	}
	for _, o := range c.objects {
		for _, section := range slices.Sorted(maps.Keys(o.replaced)) {
			f := o.replaced[section]
			if name := f.New; count[name] > 1 && o.New.Symbols[o.New.Main(section)].Bind == elf.STB_LOCAL {
				for n := 1; count[f.New] > 0; n++ {
					f.New = fmt.Sprintf("%s$%d", name, n)
				}
				count[f.New]++
				o.replaced[section] = f
			}
		}
	}
}

// bindings are those of the program's names, and of the entries that the global
// offset table has for some.
func (c *change) bindings(tables []string) []module.Binding {
	all := slices.Clone(c.program.bindings)
	slices.Sort(tables)
	for _, name := range slices.Compact(tables) {
		b := module.Binding{Target: name}
		for _, x := range c.program.bindings {
			if x.Symbol == name {
				b = x
			}
		}
		b.Symbol = cobject.TablePrefix + name
		all = append(all, b)
	}
	return all
}

func (c *change) name() string {
	if c.Source != "" {
		return strings.TrimSuffix(filepath.Base(c.Source), filepath.Ext(c.Source))
	}
	return filepath.Base(c.New)
}

func (c *change) output() string {
	if c.Output != "" {
		return c.Output
	}
	return c.name() + ".so"
}

// fill writes the manifest into the module that was linked, now that it is known
// where everything is.
func fill(path string, m *module.Manifest, fixups []cobject.Fixup) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return err
	}
	symbols, err := f.Symbols()
	if err != nil {
		return err
	}
	at := map[string]uint64{}
	for _, s := range symbols {
		if s.Name == cobject.Gone {
			return fmt.Errorf("the linker has kept what was cut out, at %#x", s.Value)
		}
		at[s.Name] = s.Value
	}
	for i, x := range fixups {
		base, ok := at[x.Marker]
		own, okOwn := at[x.Own]
		if !ok || !okOwn && x.Own != "" {
			return fmt.Errorf("the linker has dropped %s%s", x.Marker, x.Own)
		}
		m.Fixups[i].Addr, m.Fixups[i].Addend = base+x.Offset, int64(own)+x.Addend
	}
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	note := f.Section(".note.darn")
	if note == nil {
		return fmt.Errorf("the linker has dropped the manifest")
	}
	const header = 12 + 8
	size := int(f.ByteOrder.Uint32(data[note.Offset+4:]))
	if len(text) > size {
		return fmt.Errorf("the manifest has %d bytes, and room for %d", len(text), size)
	}
	room := data[note.Offset+header:][:size]
	n := copy(room, text)
	for i := n; i < size; i++ {
		room[i] = ' '
	}
	return os.WriteFile(path, data, 0o600)
}
