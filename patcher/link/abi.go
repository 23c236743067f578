package link

// Offsets in the structures of Go's internal/abi that the compiler writes and
// the runtime reads. They are the same from Go 1.24 to 1.26; goruntime.Open
// compares them with the target's own DWARF.
const (
	TypeSize  = 0  // abi.Type.Size_
	TypeHash  = 16 // abi.Type.Hash
	TypeTFlag = 20 // abi.Type.TFlag
	TypeKind  = 23 // abi.Type.Kind_
	TypeStr   = 40 // abi.Type.Str
	TypeBytes = 48 // size of abi.Type

	InterfaceMethods = 56 // abi.InterfaceType.Methods, a slice

	ITabInter = 0  // abi.ITab.Inter
	ITabType  = 8  // abi.ITab.Type
	ITabHash  = 16 // abi.ITab.Hash
	ITabFun   = 24 // abi.ITab.Fun
)

const (
	kindMask       = 1<<5 - 1 // up to 1.25 the upper bits of Kind_ are flags
	tflagExtraStar = 1 << 1   // the name has a '*' before it that isn't meant
)
