// Package gotype reads the type descriptors of a linked Go program (abi.Type
// and what belongs to it), of any image that can tell its bytes and its
// pointers: an executable, a relocatable object laid out at made-up addresses,
// a process. It knows Go 1.24 to 1.26 on 64-bit little-endian machines.
//
// The layout is that of internal/abi/type.go and internal/abi/map.go; it has no
// names here, because neither DWARF nor the linker describes it.
package gotype

// Image is a linked Go program or a part of it.
type Image interface {
	// Bytes returns the n bytes at addr, with the fields of relocations in any
	// state; ok is false if the image does not hold them.
	Bytes(addr uint64, n int) (data []byte, ok bool)
	// Pointer returns the pointer in the 8 bytes at addr, relocated, 0 for nil
	// and for what lies outside of the image.
	Pointer(addr uint64) uint64
	// Types is the address of runtime.types, the origin of TypeOff and NameOff,
	// in the part of the program that holds addr.
	Types(addr uint64) uint64
}

// Kind is abi.Kind without flags.
type Kind uint8

// The kinds, numbered as in internal/abi.
const (
	Bool Kind = iota + 1
	Int
	Int8
	Int16
	Int32
	Int64
	Uint
	Uint8
	Uint16
	Uint32
	Uint64
	Uintptr
	Float32
	Float64
	Complex64
	Complex128
	Array
	Chan
	Func
	Interface
	Map
	Pointer
	Slice
	String
	Struct
	UnsafePointer
)

// The flags of a type (abi.TFlag) that this package reads.
const (
	flagUncommon       = 1 << 0
	flagExtraStar      = 1 << 1
	flagNamed          = 1 << 2
	flagGCMaskOnDemand = 1 << 4
)

// Sizes of the structs in internal/abi, bytes.
const (
	sizeType      = 48
	sizeArray     = 72
	sizeChan      = 64
	sizeFunc      = 56
	sizeInterface = 80
	sizeMap       = 112
	sizePointer   = 56
	sizeSlice     = 56
	sizeStruct    = 80
	sizeUncommon  = 16
	sizeMethod    = 16
	sizeIMethod   = 8
	sizeField     = 24
)

// unreachable is what the linker writes for a method that nothing can call
// (cmd/link/internal/ld/data.go, R_METHODOFF).
const unreachable = -1
