package redirect

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

// unhex parses bytes as a disassembler prints them.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestLengthKnowsEveryEncoding(t *testing.T) {
	for _, c := range []struct{ text, code string }{
		{"nop", "90"},
		{"endbr64", "f3 0f 1e fa"},
		{"nopw 0(%rax,%rax)", "66 2e 0f 1f 84 00 00 00 00 00"},
		{"push %r15", "41 57"},
		{"mov %fs:-8, %rcx", "64 48 8b 0c 25 f8 ff ff ff"},
		{"mov $imm64, %rax", "48 b8 01 02 03 04 05 06 07 08"},
		{"mov $imm16, %ax", "66 b8 01 02"},
		{"mov $imm32, %eax", "b8 01 02 03 04"},
		{"movabs 0x0807060504030201, %al", "a0 01 02 03 04 05 06 07 08"},
		{"addr32 mov 0x04030201, %al", "67 a0 01 02 03 04"},
		{"enter", "c8 10 00 00"},
		{"ret $8", "c2 08 00"},
		{"test $1, %cl", "f6 c1 01"},
		{"not %cl", "f6 d1"},
		{"testw $0x201, (%rax)", "66 f7 00 01 02"},
		{"testq $1, (%rax)", "48 f7 00 01 00 00 00"},
		{"data16 with REX.W keeps the wide immediate", "66 48 81 c0 01 00 00 00"},
		{"neg %rax", "48 f7 d8"},
		{"xbegin", "c7 f8 00 00 00 00"},
		{"data16 data16 rex.W call", "66 66 48 e8 00 00 00 00"},
		{"addr32 call", "67 e8 00 00 00 00"},
		{"bnd jmp *%rax", "f2 ff e0"},
		{"lock cmpxchg", "f0 48 0f b1 11"},
		{"mov (,%rax,8), %rax", "48 8b 04 c5 00 00 00 00"},
		{"mov disp32(%rsp), %rax", "48 8b 84 24 00 01 00 00"},
		{"mov disp8(%rbp,%rcx), %eax", "8b 44 0d 08"},
		{"mov %cr0, %rax ignores mod", "0f 20 05"},
		{"extrq has two immediates", "66 0f 78 c1 02 03"},
		{"vmread", "0f 78 c1"},
		{"pclmulqdq", "66 0f 3a 44 c1 11"},
		{"sha256rnds2", "0f 38 cb c1"},
		{"crc32", "f2 48 0f 38 f1 c1"},
		{"pfadd (3DNow!)", "0f 0f c1 9e"},
		{"rdrand", "48 0f c7 f0"},
		{"a REX that a prefix follows does not count", "48 66 81 c0 01 02"},
		{"VEX2 vzeroupper", "c5 f8 77"},
		{"VEX2 vmovdqu 16(%rsi), %ymm1", "c5 fe 6f 4e 10"},
		{"VEX2 vpshufd", "c5 f9 70 c1 4e"},
		{"VEX2 rip-relative", "c5 f9 6f 05 00 00 00 00"},
		{"VEX3 andn", "c4 e2 70 f2 c2"},
		{"VEX3 rorx", "c4 e3 fb f0 c1 05"},
		{"VEX3 vpgatherdd", "c4 e2 75 90 04 8f"},
		{"EVEX vmovdqu64 (%rax), %zmm1", "62 f1 fe 48 6f 08"},
		{"EVEX with compressed disp8", "62 f1 fe 48 6f 48 01"},
		{"EVEX vpternlogd", "62 f3 75 48 25 c2 ff"},
		{"EVEX vprold", "62 f1 75 48 72 c9 05"},
		{"EVEX map 5 vaddph", "62 f5 74 48 58 c2"},
		{"XOP vprotb $1", "8f e8 78 c0 c1 01"},
		{"XOP map 9", "8f e9 78 01 c9"},
		{"XOP map A has imm32", "8f ea 78 10 c1 01 02 03 04"},
		{"pop (%rax) is no XOP", "8f 00"},
		{"15 bytes", "66 66 66 66 66 66 2e 0f 1f 84 00 00 00 00 00"},
	} {
		code := unhex(t, c.code)
		if n, err := Length(append(code, 0xCC, 0xCC)); n != len(code) || err != nil {
			t.Errorf("%s (% x): Length = %d, %v; want %d", c.text, code, n, err, len(code))
		}
		if n, err := Length(code[:len(code)-1]); err == nil {
			t.Errorf("%s (% x) without its last byte: Length = %d, want an error", c.text, code, n)
		}
	}
}

func TestLengthRejectsWhatIsNoInstruction(t *testing.T) {
	for _, c := range []struct{ code, reason string }{
		{"", "does not end within the code"},
		{"48", "does not end within the code"},
		{"06", "no such instruction"},
		{"d4 0a", "no such instruction"},
		{"0f 04", "no such instruction"},
		{"48 c5 f8 77", "no such instruction"},          // REX before VEX
		{"c4 e0 70 f2 c2", "no such instruction"},       // VEX map 0
		{"62 f4 fe 48 6f 08", "no such instruction"},    // EVEX map 4
		{"62 f1 fa 48 6f 08", "no such instruction"},    // EVEX fixed bit
		{"66 e8 00 00 00 00", "operand size prefix"},    // rel16 or rel32
		{"66 0f 84 00 00 00 00", "operand size prefix"}, // the same
		{"66 66 66 66 66 66 66 66 66 66 66 66 66 66 66 90", "longer than 15 bytes"},
		{"66 66 66 66 2e 2e 2e 2e 2e 0f 1f 84 00 00 00 00 00", "longer than 15 bytes"},
	} {
		n, err := Length(unhex(t, c.code))
		var decode *DecodeError
		if !errors.As(err, &decode) || !strings.Contains(decode.Reason, c.reason) {
			t.Errorf("% s: Length = %d, %v; want %q", c.code, n, err, c.reason)
		}
	}
}
