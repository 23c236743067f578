package cli

import (
	"os"
	"strings"
	"syscall"
	"testing"
)

// The command does without the thread if it is told to, and with it in a program
// that has namespaces of its own, where threads have other ids.
func TestHaltsWithAndWithoutTheResident(t *testing.T) {
	for _, test := range []struct {
		name, resident string
		attr           *syscall.SysProcAttr
	}{
		{"with it", residentAuto, nil},
		{"in namespaces of its own", residentAuto, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}},
		{"without", residentNever, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.attr != nil && os.Getuid() != 0 {
				t.Skip("takes root to make them")
			}
			p, s, module := troubled(t, test.attr)
			before := s.snapshot()
			does := func(command, says string) {
				t.Helper()
				var done outcome
				darn(t, command, "--json", "--resident="+test.resident, s.flag(), module).ok(t).decode(t, &done)
				why, halts := done.Receipt.HaltedBecause, done.Receipt.Halts
				// The entry of answer can't be written by one store.
				without := test.resident == residentNever
				if command == "load" && without != (halts > 0) || command == "activate" && without != strings.Contains(why, "forbidden") || (halts > 0) != (why != "") {
					t.Errorf("%s halts the program %d times, since %q", command, halts, why)
				}
				p.says(t, says)
			}
			does("load", "42")
			does("activate", "43")
			var done outcome
			darn(t, "deactivate", "--json", "--resident="+test.resident, s.flag(), module).ok(t).decode(t, &done)
			if done.Receipt.Halts != 0 {
				t.Errorf("deactivate says %+v", done.Receipt)
			}
			darn(t, "unload", "--json", s.flag(), module).ok(t).decode(t, &done)
			if done.Receipt.Halts == 0 || done.Receipt.HaltedBecause == "" {
				t.Errorf("unload says %+v", done.Receipt)
			}
			p.says(t, "42")
			s.mustEqual(before)
		})
	}
}
