package module

import (
	"bytes"
	"testing"
)

// FuzzRead: whatever the file, Read does not panic, and what it accepts can be
// written and read again, to the same bytes.
func FuzzRead(f *testing.F) {
	f.Add(encoded(f, sample()))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Read(data)
		if err != nil {
			return
		}
		if m.Shared != nil { // Write makes modules of Go
			return
		}
		if err := m.verify(); err != nil {
			t.Fatalf("accepted and not sound: %v", err)
		}
		var once, twice bytes.Buffer
		if err := m.Write(&once); err != nil {
			t.Fatalf("accepted and not writable: %v", err)
		}
		again, err := Read(once.Bytes())
		if err != nil {
			t.Fatalf("written and not readable: %v", err)
		}
		if err := again.Write(&twice); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(once.Bytes(), twice.Bytes()) {
			t.Fatal("not stable")
		}
	})
}
