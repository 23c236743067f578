package object

import (
	"maps"
	"testing"
)

func TestContextReads(t *testing.T) {
	for _, c := range []struct {
		name string
		code []byte
		want map[access]bool // nil: not known
	}{
		{"a variable used in memory", []byte{
			0x48, 0x8b, 0x4a, 0x08, // mov 8(%rdx), %rcx
			0x48, 0x03, 0x42, 0x10, // add 16(%rdx), %rax
			0xc3, // ret
		}, map[access]bool{{8, 8}: true, {16, 8}: true}},
		{"nothing captured", []byte{0x31, 0xd2, 0xc3}, map[access]bool{}}, // xor %edx, %edx
		{"after DX was overwritten", []byte{
			0x48, 0x8b, 0x52, 0x08, // mov 8(%rdx), %rdx
			0x48, 0x8b, 0x42, 0x18, // mov 24(%rdx), %rax
			0xc3,
		}, map[access]bool{{8, 8}: true}},
		{"on both sides of a branch", []byte{
			0x74, 0x05, // je +5
			0x8b, 0x42, 0x08, // mov 8(%rdx), %eax
			0xc3, 0x90, // ret; nop
			0x8a, 0x42, 0x0c, // mov 12(%rdx), %al
			0xc3,
		}, map[access]bool{{8, 4}: true, {12, 1}: true}},
		{"a loop", []byte{
			0x48, 0x03, 0x42, 0x08, // add 8(%rdx), %rax
			0xeb, 0xfa, // jmp -6
		}, map[access]bool{{8, 8}: true}},
		{"the pointer copied", []byte{0x48, 0x89, 0xd0, 0xc3}, nil},          // mov %rdx, %rax
		{"the pointer stored", []byte{0x48, 0x89, 0x54, 0x24, 8, 0xc3}, nil}, // mov %rdx, 8(%rsp)
		{"an address within", []byte{0x48, 0x8d, 0x42, 0x08, 0xc3}, nil},     // lea 8(%rdx), %rax
		{"no instruction", []byte{0x06}, nil},
	} {
		got, ok := contextReads(c.code)
		if ok != (c.want != nil) || ok && !maps.Equal(got, c.want) {
			t.Errorf("%s: %v %v, want %v", c.name, got, ok, c.want)
		}
	}
}

func FuzzContextReads(f *testing.F) {
	f.Add([]byte{0x48, 0x8b, 0x4a, 0x08, 0xeb, 0xfa})
	f.Fuzz(func(t *testing.T, code []byte) { contextReads(code) })
}
