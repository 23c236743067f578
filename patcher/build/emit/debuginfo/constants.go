package debuginfo

// Numbers of the DWARF standard, versions 4 and 5, section 7, and of
// cmd/internal/dwarf: only those that mean something here.
const (
	tagCompileUnit = 0x11
	tagSubprogram  = 0x2e
	tagVariable    = 0x34
	tagConstant    = 0x27

	attrSibling       = 0x01
	attrLocation      = 0x02
	attrName          = 0x03
	attrStmtList      = 0x10
	attrLowPC         = 0x11
	attrHighPC        = 0x12
	attrLanguage      = 0x13
	attrCompDir       = 0x1b
	attrProducer      = 0x25
	attrDeclFile      = 0x3a
	attrType          = 0x49
	attrRanges        = 0x55
	attrCallFile      = 0x58
	attrAddrBase      = 0x73
	attrGoRuntimeType = 0x2904
	attrGoPackage     = 0x2905

	formAddr        = 0x01
	formData2       = 0x05
	formData4       = 0x06
	formData8       = 0x07
	formString      = 0x08
	formBlock       = 0x09
	formBlock1      = 0x0a
	formData1       = 0x0b
	formFlag        = 0x0c
	formSdata       = 0x0d
	formUdata       = 0x0f
	formRefAddr     = 0x10
	formSecOffset   = 0x17
	formExprloc     = 0x18
	formFlagPresent = 0x19
	formAddrx       = 0x1b

	opAddr = 0x03

	unitCompile = 1

	// Entries of lists of locations and of ranges in DWARF 5: the numbers are
	// the same as far as Go uses them.
	listEnd          = 0
	listBaseAddressx = 1
	listOffsetPair   = 4

	lineCopy           = 1
	lineSetFile        = 4
	lineFixedAdvancePC = 9
	lineEndSequence    = 1
	lineSetAddress     = 2
	linePath           = 1
	lineDirectory      = 2

	addressSize = 8
)
