package redirect

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher/finding"
)

// entries are functions in assembly and what Analyze makes of each: a plan
// (encoding, offset, span, single, and for a direct one its reason) or a
// refusal (code and words of its text).
var entries = []struct {
	name     string
	asm      string
	encoding Encoding
	offset   int
	span     int
	single   bool
	code     finding.Code
	text     string
}{
	// What Go's compiler begins functions with.
	{name: "go_small_frame", asm: `1: cmp 16(%r14), %rsp; jbe 2f; push %rbp; ret; 2: call 9f; jmp 1b; 9: ret`,
		encoding: JumpEncoding, span: 6},
	{name: "go_small_frame_far_tail", asm: `1: cmp 16(%r14), %rsp; jbe 2f; push %rbp; .skip 200, 0x90; ret; 2: jmp 1b`,
		encoding: JumpEncoding, span: 10},
	{name: "go_large_frame", asm: `1: lea -0x88(%rsp), %r12; cmp 16(%r14), %r12; jbe 2f; ret; 2: jmp 1b`,
		encoding: JumpEncoding, span: 8, single: true},
	{name: "go_large_frame_short", asm: `1: lea -0x58(%rsp), %r12; cmp 16(%r14), %r12; jbe 2f; ret; 2: jmp 1b`,
		encoding: JumpEncoding, span: 5, single: true},
	{name: "go_huge_frame", asm: `mov %rsp, %r12; sub $0x20000, %r12; jb 2f; cmp 16(%r14), %r12; 2: ret`,
		encoding: JumpEncoding, span: 10},
	{name: "go_system_stack", asm: `1: cmp 24(%r14), %rsp; jbe 2f; ret; 2: jmp 1b`,
		encoding: JumpEncoding, span: 6},
	{name: "go_nosplit_frame", asm: `push %rbp; mov %rsp, %rbp; sub $16, %rsp; ret`,
		encoding: JumpEncoding, span: 8},
	{name: "go_assembly_tls", asm: `mov %fs:-8, %rcx; cmp 16(%rcx), %rsp; ret`,
		encoding: JumpEncoding, span: 9, single: true},
	{name: "go_method_load", asm: `mov 8(%rax), %rbx; mov (%rax), %rax; ret`,
		encoding: DirectEncoding, span: 7, text: "48 8b 58 08 at +0x0 accesses memory that may not be there"},
	{name: "go_nil_check", asm: `nop; xor %ecx, %ecx; test %al, (%rax); ret`,
		encoding: DirectEncoding, span: 5, text: "84 00 at +0x3 accesses memory"},
	{name: "go_division", asm: `xor %edx, %edx; div %rbx; ret`,
		encoding: DirectEncoding, span: 5, text: "48 f7 f3 at +0x2 may trap"},
	{name: "r14_is_only_g_in_the_stack_check", asm: `mov 16(%r14), %rsi; ret`,
		encoding: DirectEncoding, span: 5, text: "accesses memory"},

	// What C compilers begin functions with.
	{name: "c_endbr", asm: `endbr64; push %rbp; mov %rsp, %rbp; sub $32, %rsp; ret`,
		encoding: JumpEncoding, offset: 4, span: 8},
	{name: "c_endbr_single", asm: `endbr64; mov $1, %eax; ret`,
		encoding: JumpEncoding, offset: 4, span: 5, single: true},
	{name: "c_pushes", asm: `push %r15; push %r14; push %r13; ret`,
		encoding: JumpEncoding, span: 6},
	{name: "c_spill", asm: `mov %edi, -20(%rsp); mov -20(%rsp), %eax; ret`,
		encoding: JumpEncoding, span: 8},
	{name: "c_stack_protector", asm: `mov %fs:0x28, %rax; ret`,
		encoding: JumpEncoding, span: 9, single: true},
	{name: "c_global", asm: `mov c_pushes(%rip), %eax; ret`,
		encoding: JumpEncoding, span: 6, single: true},
	{name: "c_vector", asm: `vmovd %edi, %xmm0; vpbroadcastd %xmm0, %ymm0; ret`,
		encoding: JumpEncoding, span: 9},
	{name: "c_avx512_load", asm: `vmovdqu64 (%rdi), %zmm0; ret`,
		encoding: DirectEncoding, span: 6, single: true, text: "accesses memory"},
	{name: "c_tail_call", asm: `jmp c_pushes + 0x100000`,
		encoding: JumpEncoding, span: 5, single: true},
	{name: "c_tail_call_through_memory", asm: `jmp *c_pushes(%rip)`,
		encoding: JumpEncoding, span: 6, single: true},
	{name: "c_call_first", asm: `sub $8, %rsp; call c_pushes; ret`,
		encoding: DirectEncoding, span: 9, text: "at +0x4 is a call, whose return address"},
	{name: "c_indirect_call_first", asm: `push %rax; call *%rdi; pop %rax; ret; nop`,
		encoding: DirectEncoding, span: 5, text: "is a call"},
	{name: "c_atomic", asm: `lock incl -4(%rsp); ret`,
		encoding: DirectEncoding, span: 5, single: true, text: "is an atomic operation"},
	{name: "c_system_call", asm: `xor %eax, %eax; syscall; ret`,
		encoding: DirectEncoding, span: 5, text: "0f 05 at +0x2 may trap"},
	{name: "c_trap", asm: `ud2; nop; nop; nop`,
		encoding: DirectEncoding, span: 5, text: "0f 0b at +0x0 may trap"},
	{name: "c_jrcxz", asm: `jrcxz 1f; nop; nop; nop; nop; 1: ret`,
		encoding: DirectEncoding, span: 5, text: "cannot be made to reach far"},
	{name: "c_string_copy", asm: `mov %edx, %ecx; rep movsb; nop; ret`,
		encoding: DirectEncoding, span: 5, text: "f3 a4 at +0x2 may trap"},
	{name: "c_indexed_stack", asm: `mov -8(%rsp,%rdi,8), %rax; ret`,
		encoding: DirectEncoding, span: 5, single: true, text: "accesses memory"},

	// Branches.
	{name: "loop_to_the_entry", asm: `1: dec %rdi; jne 1b; ret`,
		encoding: JumpEncoding, span: 5},
	{name: "loop_behind_endbr", asm: `endbr64; 1: dec %rdi; jne 1b; ret`,
		encoding: JumpEncoding, offset: 4, span: 5},
	{name: "loop_behind_the_jmp", asm: `mov $0, %eax; 1: add %edi, %eax; dec %edi; jne 1b; ret`,
		encoding: JumpEncoding, span: 5, single: true},
	{name: "branch_over_a_lock_prefix", asm: `nop; nop; je 1f + 1; 1: lock incl -4(%rsp); ret`,
		encoding: DirectEncoding, span: 9, text: "is an atomic operation"},
	{name: "jump_table", asm: `1: cmp 16(%r14), %rsp; jbe 2f; lea 3f(%rip), %rcx; jmp *(%rcx,%rax,8); ret; 2: jmp 1b; 3:`,
		encoding: JumpEncoding, span: 6},
	{name: "ends_before_the_jmp_does", asm: `xor %eax, %eax; ret; int3; int3; int3`,
		encoding: JumpEncoding, span: 5},
	{name: "data_behind_the_end", asm: `xor %eax, %eax; ret; nop; .byte 0x90`,
		encoding: JumpEncoding, span: 5},

	// What is refused.
	{name: "too_short", asm: `xor %eax, %eax; ret`,
		code: finding.EntryTooShort, text: "has 3 bytes, and a redirect needs 5"},
	{name: "too_short_behind_endbr", asm: `endbr64; mov %edi, %eax; ret`,
		code: finding.EntryTooShort, text: "has 7 bytes, and a redirect needs 9"},
	{name: "branch_target", asm: `xor %eax, %eax; 1: add %edi, %eax; dec %edi; jne 1b; ret`,
		code: finding.EntryBranchTarget, text: "the instruction at +0x6 of the function at"},
	{name: "branch_target_far", asm: `push %rbx; 1: dec %edi; js 2f; .skip 300, 0x90; jmp 1b; 2: pop %rbx; ret`,
		code: finding.EntryBranchTarget, text: "leads to +0x1, among the bytes that a redirect overwrites"},
	{name: "branch_target_behind_endbr", asm: `endbr64; xor %eax, %eax; 1: add %edi, %eax; dec %edi; jne 1b; ret`,
		code: finding.EntryBranchTarget, text: "leads to +0x6"},
	{name: "address_taken", asm: `push %rbx; 1: pop %rbx; nop; nop; nop; lea 1b(%rip), %rax; ret`,
		code: finding.EntryBranchTarget, text: "leads to +0x1"},
	{name: "undecodable_entry", asm: `xor %eax, %eax; .byte 6, 6, 6, 6`,
		code: finding.UnsupportedTarget, text: "cannot be decoded at +0x2 (no such instruction)"},
	{name: "undecodable_body", asm: `mov $1, %eax; ret; .byte 6`,
		code: finding.UnsupportedTarget, text: "cannot be decoded at +0x6 (no such instruction), so a branch into its entry cannot be ruled out"},
	{name: "cut_off", asm: `mov $1, %eax; .byte 0xe8, 0`,
		code: finding.UnsupportedTarget, text: "does not end within the code"},
}

// assemble turns the entries into an object file, all in one section.
func assemble(t *testing.T) *image {
	t.Helper()
	var src strings.Builder
	src.WriteString(".text\n")
	for _, e := range entries {
		fmt.Fprintf(&src, ".type %s, @function\n%s:\n%s\n.size %s, .-%s\n", e.name, e.name, e.asm, e.name, e.name)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "entries.s"), []byte(src.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	obj := filepath.Join(dir, "entries.o")
	gcc(t, "-c", "-o", obj, filepath.Join(dir, "entries.s"))
	return readImage(t, obj)
}

func TestAnalyzeJudgesEachEntry(t *testing.T) {
	im := assemble(t)
	for _, e := range entries {
		t.Run(e.name, func(t *testing.T) {
			f := im.named(t, e.name)
			p, err := Analyze(f.code, f.addr)
			if e.code != "" {
				if finding.CodeOf(err) != e.code || !strings.Contains(err.Error(), e.text) {
					t.Fatalf("Analyze(% x) = %+v, %v; want %s: %s", f.code, p, err, e.code, e.text)
				}
				return
			}
			if err != nil {
				t.Fatalf("Analyze(% x): %v", f.code, err)
			}
			if p.Entry != f.addr || p.Encoding != e.encoding || p.Offset != e.offset || p.Span != e.span || p.Single != e.single {
				t.Errorf("Analyze(% x) = %+v; want %s, offset %d, span %d, single %t",
					f.code, p, e.encoding, e.offset, e.span, e.single)
			}
			if (p.Reason == "") != (e.encoding == JumpEncoding) || !strings.Contains(p.Reason, e.text) {
				t.Errorf("reason %q, want %q", p.Reason, e.text)
			}
			if want := f.code[e.offset : e.offset+JumpSize]; string(p.Old) != string(want) {
				t.Errorf("old bytes % x, want % x", p.Old, want)
			}
		})
	}
}
