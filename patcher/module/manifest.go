package module

import "github.com/darn-dev/darn/patcher/finding"

// FormatVersion is the version of the manifest that this package writes and
// the only one it reads.
const FormatVersion = 2

// Manifest is the note "Darn" of a module: what the module is, which build of
// which program it is for, and what binding it needs beyond plain ELF
// relocations. It is stored as JSON.
type Manifest struct {
	Format      int        `json:"format"`
	Name        string     `json:"name"`
	Description string     `json:"description,omitempty"`
	Language    string     `json:"language"` // "go" or "c"
	Target      Target     `json:"target"`
	Functions   []Function `json:"functions"`
	// Added are functions that edited packages have anew, LeftOut those that
	// the edit changes and the module does not: for people.
	Added    []Declared        `json:"added,omitempty"`
	LeftOut  []Declared        `json:"leftOut,omitempty"`
	Go       *Go               `json:"go,omitempty"`
	Findings []finding.Finding `json:"findings,omitempty"`
	Origin   Origin            `json:"origin"`
	// Sources are the files that the edit changed.
	Sources []Source `json:"sources,omitempty"`
	// Requires are the modules that must be loaded before this one, since it
	// shares what they added to the program.
	Requires []Required `json:"requires,omitempty"`
	// Bindings say, for C, which of several static functions or variables of
	// one name an undefined symbol of the module is.
	Bindings []Binding `json:"bindings,omitempty"`
	// Fixups are further relocations, for C.
	Fixups []Fixup `json:"fixups,omitempty"`
}

// Binding ties an undefined symbol to a static one of the program's.
type Binding struct {
	Symbol string `json:"symbol"`
	Target string `json:"target"` // file.c:name, or name
	// Offset, if not 0, is its address in the program's file: it is known by that,
	// as the module fits one build only.
	Offset uint64 `json:"offset,omitempty"`
}

// Fixup is a relocation that a linker of shared objects does not make: code that
// was compiled for the program reaches the program's variables and functions
// directly, which it can, as it is placed near.
type Fixup struct {
	Addr uint64 `json:"addr"` // in the module
	// Type is R_X86_64_PC32, 32, 32S, 64 or TPOFF32, with the psABI's meaning.
	Type uint32 `json:"type"`
	// Symbol is found as an undefined symbol of the module is; "" is the module
	// itself.
	Symbol string `json:"symbol,omitempty"`
	Addend int64  `json:"addend"`
}

// Required is a module that another one builds on.
type Required struct {
	ID   string `json:"id"` // sha256 of its file, hex: see Module.ID
	Name string `json:"name"`
	Size uint64 `json:"size"` // of its image, bytes
	Text uint64 `json:"text"` // its Go.TextAddr
}

// Target identifies the one build that the module fits.
type Target struct {
	GoBuildID  string `json:"goBuildId,omitempty"`
	GNUBuildID string `json:"gnuBuildId,omitempty"` // hex
	GoVersion  string `json:"goVersion,omitempty"`
	Path       string `json:"path,omitempty"` // main package path, for people
}

// Function is one function that the module replaces.
type Function struct {
	Symbol    string  `json:"symbol"`              // its name in the target's symbol table
	New       string  `json:"new"`                 // the symbol in the module that replaces it
	Offset    uint64  `json:"offset"`              // of the old code, from the target's text start (Go: runtime.text)
	Size      uint64  `json:"size"`                // of the old code, bytes
	SHA256    string  `json:"sha256"`              // of the old code with Masked bytes zeroed, hex
	Masked    []Field `json:"masked,omitempty"`    // relocation fields in the old code
	Source    string  `json:"source,omitempty"`    // file:line of the new function
	OldSource string  `json:"oldSource,omitempty"` // file:line of the old one
	Why       string  `json:"why,omitempty"`       // the first difference, in words
	// Lost is other code of the target's that calls of the function may be in
	// and that no call of the new one runs, such as closures that were made
	// before and that nothing continues.
	Lost []Code `json:"lost,omitempty"`
}

// Code is a function of the target's that is not replaced.
type Code struct {
	Symbol string `json:"symbol"`
	Offset uint64 `json:"offset"` // from the target's text start (Go: runtime.text)
	Size   uint64 `json:"size"`   // bytes
}

// Declared is a function by its name and place.
type Declared struct {
	Symbol string `json:"symbol"`
	Source string `json:"source,omitempty"` // file:line
	Why    string `json:"why,omitempty"`
}

// Field is a run of bytes.
type Field struct {
	Offset uint32 `json:"o"`
	Size   uint8  `json:"n"`
}

// Origin says what the module was built from, for people.
type Origin struct {
	Base    string `json:"base,omitempty"`    // git revision or folder
	New     string `json:"new,omitempty"`     // folder or revision
	Builder string `json:"builder,omitempty"` // darn's version
}

// Go is what a Go module needs beside its relocations. Addresses (Addr) are
// the module's own, before it is placed.
type Go struct {
	// Moduledata is the module's runtime.moduledata, complete but for the
	// fields that name places in the target: every field that the builder can
	// decide is decided in the file (hasmain, next, typelinks, gc masks...).
	ModuledataAddr uint64 `json:"moduledata"`
	ModuledataSize uint64 `json:"moduledataSize"`
	// TypesAddr is the address of the module's runtime.types: the origin of
	// every TypeOff and NameOff inside the module's own types.
	TypesAddr uint64 `json:"types"`
	// TextAddr is the address of the module's runtime.text.
	TextAddr uint64 `json:"text"`
	// Types are the target's types that the module uses.
	Types []TypeBinding `json:"typeBindings,omitempty"`
	// Itabs are the (type, interface) pairs that the module uses.
	Itabs []ItabBinding `json:"itabBindings,omitempty"`
	// Methods are slots in the target's types and itabs that the target's
	// linker pruned and that the module fills with real code.
	Methods []MethodFill `json:"methodFills,omitempty"`
	// Variables are the package-level variables that the module adds to the
	// program: a later module that has them too shares them.
	Variables []Variable `json:"variables,omitempty"`
	// Imports are the variables of required modules that this one shares.
	Imports []Import `json:"imports,omitempty"`
	// Init is what initialises the module before its functions run, nil if
	// nothing has to.
	Init *Initialisation `json:"init,omitempty"`
	// InitPackages are packages new to the target that are then initialised, in
	// order.
	InitPackages []string `json:"initPackages,omitempty"`
	// InitVariables are variables new to the target, of packages that it has,
	// to which the patch gives their initial values: see InitPackages.
	InitVariables []string `json:"initVariables,omitempty"`
}

// Initialisation is code that runs before those of a module that replace
// functions do.
type Initialisation struct {
	// Start is where a value of the type func() bool is: it starts a goroutine
	// that initialises the module, gives back the place from which it was called
	// (see InitHook), and returns true.
	Start uint64 `json:"start"`
	// State is where a variable is that Darn and this code share: InitStateSize
	// bytes, with fields at the Init offsets.
	State uint64 `json:"state"`
}

// Where the fields of an Initialisation's State are.
const (
	// InitMark holds what the labels (runtime.g.labels) of the goroutines point
	// to that initialise, or InitNobody. It stays when that is done, for Darn to
	// write InitNobody.
	InitMark = 0
	// InitHook holds the address of a pointer to a function that the program
	// calls, in place of which Darn has put Start; InitHooked what it was.
	InitHook, InitHooked = 8, 16
	// InitPhase is an InitPhase… in 4 bytes.
	InitPhase = 24
	// InitWhy has the reason of InitFailed, in bytes up to a zero or the end.
	InitWhy = 36
	// InitStateSize is the size of the variable.
	InitStateSize = InitWhy + 200
)

// InitNobody is no address, and so no goroutine's labels.
const InitNobody = 1

// What InitPhase may be: not begun, under way, done, and ended by a panic.
const (
	InitNot = iota
	InitUnderWay
	InitDone
	InitFailed
)

// Variable is a variable that a module adds to the program.
type Variable struct {
	Symbol string `json:"symbol"` // in the module
	Name   string `json:"name"`   // as the linker writes it: path/to/package.Name
	// Type is a hash of the variable's type, deep: see object.VariableTypes.
	Type string `json:"type"`
}

// Import ties an undefined symbol of the module to a variable of a required
// one.
type Import struct {
	Symbol string `json:"symbol"`
	Module string `json:"module"` // Required.ID
	Offset uint64 `json:"offset"` // the variable's address in that module
	Size   uint64 `json:"size"`   // bytes
}

// TypeBinding ties an undefined symbol of the module to a type descriptor of
// the target, or of a required module. The builder has compared the whole structure; the linker checks
// the identity of what it finds.
type TypeBinding struct {
	Symbol  string `json:"symbol"`           // as in the symbol table, "type:…"
	Module  string `json:"module,omitempty"` // Required.ID; "": the target's own
	Offset  uint64 `json:"offset"`           // from the target's runtime.types, or the address in the required module
	Hash    uint32 `json:"hash"`             // abi.Type.Hash
	Kind    uint8  `json:"kind"`             // abi.Kind, flags masked off
	Size    uint64 `json:"size"`             // abi.Type.Size_
	String  string `json:"string"`           // as reflect's Type.String
	PkgPath string `json:"pkgPath,omitempty"`
}

// ItabBinding ties an undefined symbol "go:itab.T,I" to an itab. Three places
// are tried: the target's static itab, the runtime's table of dynamic ones,
// the module's own copy, which is then published in the runtime's table.
type ItabBinding struct {
	Symbol string `json:"symbol"`
	// Static is the address of the target's itab as an offset from its
	// runtime.types (it may be negative), if HasStatic.
	HasStatic bool  `json:"hasStatic,omitempty"`
	Static    int64 `json:"static,omitempty"`
	// Type and Inter are symbols: of a TypeBinding, or defined in the module.
	Type  string `json:"type"`
	Inter string `json:"inter"`
	Hash  uint32 `json:"hash"` // of Type
	// Own is the symbol of the module's own copy, "" if it has none.
	Own string `json:"own,omitempty"`
}

// MethodFill is one slot of the target, or of a required module's types, that
// led to runtime.unreachableMethod.
type MethodFill struct {
	// Module is the Required.ID of the module that has the slot, "" for the
	// target.
	Module string `json:"module,omitempty"`
	// Offset of the slot from the target's runtime.types, or its address in the
	// required module.
	Offset int64 `json:"offset"`
	// Size is 8 for an itab's function pointer, 4 for a text offset
	// (abi.Method's Ifn or Tfn, relative to the runtime.text of the target or
	// of the required module; that has no other slots).
	Size int `json:"size"`
	// Symbol in the module (or the target) that the slot must lead to.
	Symbol string `json:"symbol"`
	// Old is what the slot holds if it is not the address of
	// runtime.unreachableMethod, else 0: in a position-independent executable
	// cmd/link leaves it without a relocation, so that it holds the link-time
	// address wherever the program runs. Only for Size 8.
	Old uint64 `json:"old,omitempty"`
}
