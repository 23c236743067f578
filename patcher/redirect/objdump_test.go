package redirect

import (
	"bufio"
	"encoding/hex"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// disasm is one instruction as objdump prints it.
type disasm struct {
	addr uint64
	code []byte
	text string
}

// objdump calls yield with every instruction of the file's executable
// sections.
func objdump(t *testing.T, path string, yield func(disasm)) {
	t.Helper()
	tool, err := exec.LookPath("objdump")
	if err != nil {
		t.Skip("objdump is not installed")
	}
	cmd := exec.Command(tool, "-d", "-w", "--insn-width=16", path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		part := strings.SplitN(lines.Text(), "\t", 3)
		if len(part) != 3 {
			continue
		}
		addr, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(part[0]), ":"), 16, 64)
		if err != nil {
			continue
		}
		code, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(part[1]), " ", ""))
		if err != nil {
			t.Fatalf("objdump printed %q", lines.Text())
		}
		yield(disasm{addr, code, strings.TrimSpace(part[2])})
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("objdump %s: %v", path, err)
	}
}

var (
	branchText = regexp.MustCompile(`^((?:bnd |notrack |data16 |rex\S* |cs |ds )*)(j\S+|call\S*|loop\S*|xbegin\S*) +([0-9a-f]+)(?: |$)`)
	ripText    = regexp.MustCompile(`\(%[re]ip\).*# ([0-9a-f]+)`)
)

// target returns the address that objdump says the instruction refers to.
func (d disasm) target() (uint64, bool) {
	if !strings.Contains(d.text, "<") && !strings.Contains(d.text, "ip)") {
		return 0, false // spares the expressions most of the lines
	}
	m := branchText.FindStringSubmatch(d.text)
	at := 3
	if m == nil {
		m, at = ripText.FindStringSubmatch(d.text), 1
	}
	if m == nil {
		return 0, false
	}
	addr, err := strconv.ParseUint(m[at], 16, 64)
	return addr, err == nil
}

// unlike reports whether objdump shows something other than one instruction:
// bytes that are none, a lone prefix before such bytes, or fwait and the
// instruction after it as one.
func (d disasm) unlike() bool {
	lonePrefix := len(d.code) == 1 && strings.HasPrefix(d.text, "rex.")
	fwait := len(d.code) > 1 && d.code[0] == 0x9B
	return lonePrefix || fwait || strings.Contains(d.text, "(bad)")
}

func TestLengthAndRefsAgreeWithObjdump(t *testing.T) {
	for _, file := range []struct {
		name string
		path func(testing.TB) string
	}{{"go", goCommand}, {"libc", libc}} {
		t.Run(file.name, func(t *testing.T) {
			path := file.path(t)
			im := readImage(t, path)
			var instructions, vector, refs, wrong int
			objdump(t, path, func(d disasm) {
				if wrong > 20 || d.unlike() {
					return
				}
				instructions++
				code := im.at(d.addr, maxLen)
				n, err := Length(code)
				if err != nil || n != len(d.code) {
					wrong++
					t.Errorf("%#x: % x %s: Length = %d, %v; objdump says %d", d.addr, d.code, d.text, n, err, len(d.code))
					return
				}
				if c := d.code[0]; c == 0xC4 || c == 0xC5 || c == 0x62 {
					vector++
				}
				got, err := Refs(d.code, d.addr)
				if err != nil {
					wrong++
					t.Errorf("%#x: % x %s: Refs: %v", d.addr, d.code, d.text, err)
					return
				}
				want, ok := d.target()
				if ok {
					refs++
				}
				if ok != (len(got) == 1) || ok && got[0].Target != want {
					wrong++
					t.Errorf("%#x: % x %s: Refs = %+v", d.addr, d.code, d.text, got)
				}
			})
			t.Logf("%d instructions, %d of them VEX or EVEX, %d references", instructions, vector, refs)
			if instructions < 100000 || vector == 0 || refs < 10000 {
				t.Error("objdump printed too little to compare with")
			}
		})
	}
}
