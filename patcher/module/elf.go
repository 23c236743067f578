package module

import "debug/elf"

// Sizes of ELF64's structures, in bytes.
const (
	headerSize  = 64
	progSize    = 56
	sectionSize = 64
	symbolSize  = 24
	relocSize   = 24
	noteHeader  = 12
)

const (
	pageSize = 4096
	// maxPrograms: e_phnum 0xffff (PN_XNUM) would mean "look elsewhere".
	maxPrograms = 0xfffe
	noteName    = "Darn"
	// noteManifest is the type of the note that holds the manifest as JSON.
	noteManifest = 1
)

// align rounds n up to a multiple of a, which is a power of two.
func align(n, a uint64) uint64 { return (n + a - 1) &^ (a - 1) }

// width is the number of bytes that a relocation alters, 0 for a type that
// has no place in a module.
func width(t elf.R_X86_64) uint64 {
	switch t {
	case elf.R_X86_64_64, elf.R_X86_64_RELATIVE:
		return 8
	case elf.R_X86_64_PC32, elf.R_X86_64_TPOFF32:
		return 4
	}
	return 0
}
