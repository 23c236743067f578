// Package module reads, verifies and writes the module file: the prebuilt
// carrier of a patch. It is an ELF shared object for x86-64 that ordinary
// tools can read; what binding it to a target takes beyond ELF is in its
// manifest. For C and C++ it is the shared object that the compiler made, with
// or without a manifest. Nothing here touches a process.
package module

import (
	"crypto/ed25519"
	"crypto/sha256"
	"debug/elf"
)

// Module is a module file in memory: plain ELF pieces and the manifest.
// Addresses are the module's own (as if loaded at 0).
type Module struct {
	Manifest Manifest
	Segments []Segment
	Symbols  []Symbol
	Relocs   []Reloc
	Debug    []Section // DWARF; not loaded
	// Shared is there for a module that a C compiler made, nil for one of Go.
	Shared *Shared

	digest [sha256.Size]byte // of the bytes that Read read, without a signature, else zero
	signer ed25519.PublicKey
}

// Segment is one PT_LOAD: a run of whole pages. Segments are sorted by
// address and do not overlap. No segment is both writable and executable.
type Segment struct {
	Name  string // of the section that describes it, ".text", ".rodata"…
	Addr  uint64 // page aligned
	Data  []byte // the rest up to Size is zero
	Size  uint64 // bytes in memory, page aligned
	Flags elf.ProgFlag
}

// Symbol is an entry of the symbol table. An undefined one is bound to the
// target when the module is linked.
type Symbol struct {
	Name      string
	Type      elf.SymType // STT_FUNC, STT_OBJECT, STT_TLS, STT_NOTYPE
	Addr      uint64      // 0 if Undefined
	Size      uint64
	Undefined bool
	Local     bool
	// What follows is known of the symbols of a Shared only.
	Weak    bool   // need not be found, if Undefined
	Version string // that an Undefined one must have, "" for any
	File    string // that a Local one is of, "" if not known
}

// Reloc is one relocation against the loaded image, with the meaning of the
// System V psABI for x86-64 (S symbol, A addend, P place, B load address):
// R_X86_64_RELATIVE (B+A), R_X86_64_64 (S+A), R_X86_64_PC32 (S+A-P),
// R_X86_64_TPOFF32 (S+A as an offset from the thread pointer).
// References inside the module that are relative to the place need none.
type Reloc struct {
	Addr   uint64
	Type   elf.R_X86_64
	Symbol int // index into Symbols, -1 for R_X86_64_RELATIVE
	Addend int64
}

// Section is a section that is carried but not loaded.
type Section struct {
	Name string
	Data []byte
}
