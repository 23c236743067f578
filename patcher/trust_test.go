package patcher_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/internal/targettest"
	"github.com/darn-dev/darn/patcher/process"
)

// write puts another registry in the place of the newest.
func (f registryFile) write(t testing.TB, data []byte) {
	t.Helper()
	at := f.newest(t)
	slot := make([]byte, slotHeader, slotHeader+len(data))
	if _, err := f.ReadAt(slot[:8], at); err != nil {
		t.Fatal(err)
	}
	binary.LittleEndian.PutUint32(slot[8:], uint32(len(data)))
	table := crc32.MakeTable(crc32.Castagnoli)
	binary.LittleEndian.PutUint32(slot[12:], crc32.Update(crc32.Checksum(slot[:12], table), table, data))
	if _, err := f.WriteAt(append(slot, data...), at); err != nil {
		t.Fatal(err)
	}
}

// forgedRegistry is what of a registry the test alters; the rest stays.
type forgedRegistry map[string]any

func (r forgedRegistry) first(list string) map[string]any {
	return r[list].([]any)[0].(map[string]any)
}

// at is the number in a record.
func at(record map[string]any, name string) uint64 {
	text, _ := record[name].(json.Number)
	n, _ := text.Int64() // what is 0 is not written
	return uint64(n)
}

// A registry that sends Darn to where nothing of Darn's is, and no entry of a
// function, is refused, and nothing is written.
func TestAForgedRegistryLeadsNowhere(t *testing.T) {
	t.Run("Go", func(t *testing.T) {
		s := newShop(t)
		m := s.module(t, "discount", discount)
		target := s.start(t)
		e, detach := attach(t, target)
		activate(t, e, load(t, e, m))
		expect(t, target, "/total", "270")
		detach()
		tryForgeries(t, target)
		expect(t, target, "/total", "300")
	})
	t.Run("C", func(t *testing.T) {
		m := cModule(t, "int total(int n) { return 7; }\n")
		target := targettest.Start(t, targettest.Command{Path: cshop(t, "-O2")})
		prints(t, target, " total=20 ")
		e, detach := attach(t, target)
		activate(t, e, load(t, e, m))
		prints(t, target, " total=7 ")
		detach()
		tryForgeries(t, target)
		prints(t, target, " total=20 ")
	})
}

// tryForgeries forges the registry of a program with one active patch, of one
// function, in many ways. In the end it unloads the patch by the genuine one.
func tryForgeries(t *testing.T, target *targettest.Target) {
	f := openRegistry(t, target)
	var genuine json.RawMessage
	f.read(t, &genuine)
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", target.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	code := func(addr uint64) []byte {
		b := make([]byte, 256)
		if _, err := memory.ReadAt(b, int64(addr)); err != nil {
			t.Fatal(err)
		}
		return b
	}
	p, err := process.Attach(target.Pid())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, forgery := range []struct {
		name string
		do   func(r forgedRegistry, entry uint64)
	}{
		{"an entry where no function begins", func(r forgedRegistry, entry uint64) {
			f, d := r.first("patches")["functions"].([]any)[0].(map[string]any), r.first("redirects")
			f["entry"], d["entry"] = entry+6, entry+6
			d["old"] = code(entry + 6)[at(d, "offset"):][:5]
			d["now"] = d["old"]
		}},
		{"bytes to put back that are not the program's", func(r forgedRegistry, entry uint64) {
			r.first("redirects")["old"] = []byte{0xcc, 0xcc, 0xcc, 0xcc, 0xcc}
		}},
		{"an entry that leads into the program", func(r forgedRegistry, entry uint64) {
			r.first("redirects")["now"] = []byte{0xe9, 0, 0, 0, 0}
		}},
		{"an entry in Darn's own code", func(r forgedRegistry, entry uint64) {
			own := at(r.first("blocks"), "addr")
			f, d := r.first("patches")["functions"].([]any)[0].(map[string]any), r.first("redirects")
			f["entry"], d["entry"] = own, own
		}},
		{"a block of stubs over the program's code", func(r forgedRegistry, entry uint64) {
			r["blocks"] = append(r["blocks"].([]any), map[string]any{"addr": entry &^ 4095, "size": 4096, "home": at(r.first("blocks"), "addr") + 1<<20})
		}},
		{"a patch over the program's code", func(r forgedRegistry, entry uint64) {
			r["lost"] = []any{map[string]any{"addr": entry &^ 4095, "size": 4096}}
		}},
		{"code to be changed back that was never changed", func(r forgedRegistry, entry uint64) {
			now := code(entry + 32)[:5]
			r["pending"] = map[string]any{"operation": "activate", "patch": "1", "writes": []any{
				map[string]any{"addr": entry + 32, "old": []byte{0xcc, 0xcc, 0xcc, 0xcc, 0xcc}, "new": now}}}
		}},
		{"an entry to be changed back to what it never was", func(r forgedRegistry, entry uint64) {
			d := r.first("redirects")
			r["pending"] = map[string]any{"operation": "activate", "patch": "1", "writes": []any{
				map[string]any{"addr": entry + at(d, "offset"), "old": []byte{0xcc, 0xcc, 0xcc, 0xcc, 0xcc}, "new": d["now"]}}}
		}},
		{"a method's slot in code", func(r forgedRegistry, entry uint64) {
			r.first("patches")["go"].(map[string]any)["fills"] = []any{map[string]any{"addr": entry + 32, "old": []byte{0xcc}, "new": code(entry + 32)[:1]}}
		}},
	} {
		t.Run(forgery.name, func(t *testing.T) {
			r := forgedRegistry{}
			d := json.NewDecoder(bytes.NewReader(genuine))
			d.UseNumber()
			if err := d.Decode(&r); err != nil {
				t.Fatal(err)
			}
			entry := at(r.first("redirects"), "entry")
			before := code(entry)
			forgery.do(r, entry)
			data, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			f.write(t, data)
			defer f.write(t, genuine)
			opened, err := patcher.Open(p)
			if err == nil {
				_ = opened.Close()
			}
			if finding.CodeOf(err) != finding.UnsupportedTarget || !strings.Contains(err.Error(), "registry") {
				t.Errorf("it is taken over: %v", err)
			}
			if now := code(entry); !bytes.Equal(now, before) {
				t.Errorf("the code at the entry was % x… and is % x…", before[:48], now[:48])
			}
		})
	}
	// What is genuine is still taken.
	e, err := patcher.Open(p)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	l, err := e.List(t.Context())
	if err != nil || len(l.Patches) != 1 {
		t.Fatalf("%+v, %v", l, err)
	}
	deactivate(t, e, &l.Patches[0])
	unload(t, e, &l.Patches[0])
}
