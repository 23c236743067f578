package module

import (
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/darn-dev/darn/patcher/finding"
)

// refused fails the test unless err is a Refusal with the code, the text, and
// an advice.
func refused(t *testing.T, err error, code finding.Code, text string) {
	t.Helper()
	if err == nil {
		t.Fatal("not refused")
	}
	t.Log(err)
	if finding.CodeOf(err) != code {
		t.Fatalf("the code is %q, not %q", finding.CodeOf(err), code)
	}
	if !strings.Contains(err.Error(), text) {
		t.Errorf("%q does not say %q", err, text)
	}
	if err.(*finding.Refusal).Findings[0].Advice == "" {
		t.Error("no advice is given")
	}
}

// A module that breaks a rule is neither written nor read.
func TestModulesThatBreakARuleAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(m *Module)
		text  string
	}{
		"no segments":                        {func(m *Module) { m.Segments = nil }, "there are no segments"},
		"segment without name":               {func(m *Module) { m.Segments[0].Name = "" }, `segment 0 has the name ""`},
		"segment not page aligned":           {func(m *Module) { m.Segments[0].Addr++ }, "segment 0 (0x1001, 0x1000 bytes) is not a run of whole pages"},
		"segment of half a page":             {func(m *Module) { m.Segments[0].Size = 100 }, "is not a run of whole pages"},
		"empty segment":                      {func(m *Module) { m.Segments[3].Size = 0 }, "is not a run of whole pages"},
		"segments overlap":                   {func(m *Module) { m.Segments[1].Addr = 0x1000 }, "segment 1 at 0x1000 overlaps the one before it"},
		"segments out of order":              {func(m *Module) { m.Segments[0], m.Segments[1] = m.Segments[1], m.Segments[0] }, "is out of order"},
		"segment too far":                    {func(m *Module) { m.Segments[3].Addr = 1 << 40 }, "lies beyond the 0x40000000 bytes that a module may span"},
		"segment wraps round":                {func(m *Module) { m.Segments[3].Addr = ^uint64(pageSize - 1) }, "lies beyond the 0x40000000 bytes"},
		"segment too large":                  {func(m *Module) { m.Segments[3].Size = 1 << 60 }, "lies beyond the 0x40000000 bytes"},
		"more in the file than in memory":    {func(m *Module) { m.Segments[0].Data = make([]byte, 0x1001) }, "segment 0 has 0x1001 bytes in the file and only 0x1000 in memory"},
		"unknown segment flag":               {func(m *Module) { m.Segments[0].Flags |= 1 << 20 }, "segment 0 has the flags"},
		"unreadable segment":                 {func(m *Module) { m.Segments[0].Flags = elf.PF_X }, "segment 0 has the flags PF_X"},
		"writable and executable":            {func(m *Module) { m.Segments[0].Flags |= elf.PF_W }, "segment 0 is writable and executable"},
		"symbol of a file":                   {func(m *Module) { m.Symbols[0].Type = elf.STT_FILE }, `symbol "main.local" has type STT_FILE, which has no place`},
		"indirect function":                  {func(m *Module) { m.Symbols[0].Type = elf.STT_GNU_IFUNC }, "which has no place in a module"},
		"symbol with a newline":              {func(m *Module) { m.Symbols[0].Name = "a\nb" }, `has the name "a\nb"`},
		"global symbol twice":                {func(m *Module) { m.Symbols[7].Name = "main.answer" }, `the global symbol "main.answer" is there twice`},
		"undefined with an address":          {func(m *Module) { m.Symbols[7].Addr = 0x1000 }, `the undefined symbol "main.other" has a value or is local`},
		"own thread-local storage":           {func(m *Module) { m.Symbols[3].Type = elf.STT_TLS }, `"go:itab.own" is thread-local storage of the module's own`},
		"symbol outside":                     {func(m *Module) { m.Symbols[2].Addr = 0x9000 }, `symbol "main.answer" (0x9000, 0x10 bytes) lies outside the module`},
		"symbol too large":                   {func(m *Module) { m.Symbols[2].Size = ^uint64(0) }, "lies outside the module"},
		"unknown relocation":                 {func(m *Module) { m.Relocs[0].Type = elf.R_X86_64_COPY }, "relocation 0 at 0x1001 has type R_X86_64_COPY, which has no place"},
		"relocation in a gap":                {func(m *Module) { m.Relocs[1].Addr = 0x2000 }, "relocation 1 at 0x2000 alters bytes outside every segment"},
		"relocation over the edge":           {func(m *Module) { m.Relocs[3].Addr = 0x7ffc }, "alters bytes outside every segment"},
		"relocations overlap":                {func(m *Module) { m.Relocs[1].Addr = 0x1003 }, "relocation 1 at 0x1003 overlaps the one before it"},
		"relocation without symbol":          {func(m *Module) { m.Relocs[0].Symbol = -1 }, "refers to symbol -1, which does not exist or is not wanted"},
		"relocation against symbol -2":       {func(m *Module) { m.Relocs[0].Symbol = -2 }, "refers to symbol -2"},
		"relocation against no symbol":       {func(m *Module) { m.Relocs[0].Symbol = 9 }, "refers to symbol 9"},
		"relative relocation with symbol":    {func(m *Module) { m.Relocs[2].Symbol = 0 }, "which does not exist or is not wanted"},
		"relative relocation leads out":      {func(m *Module) { m.Relocs[2].Addend = 0x8001 }, "leads to 0x8001, outside the module"},
		"relative relocation below 0":        {func(m *Module) { m.Relocs[2].Addend = -8 }, "outside the module"},
		"thread-local relocation of a func":  {func(m *Module) { m.Relocs[1].Symbol = 7 }, `R_X86_64_TPOFF32 does not fit symbol "main.other" of type STT_FUNC`},
		"plain relocation of a thread-local": {func(m *Module) { m.Relocs[0].Symbol = 8 }, `R_X86_64_PC32 does not fit symbol "runtime.tlsg" of type STT_TLS`},
		"debug section twice":                {func(m *Module) { m.Debug = []Section{{Name: ".debug_line"}, {Name: ".debug_line"}} }, `the section ".debug_line" is there twice`},
		"lines of a file out of order":       {func(m *Module) { m.Manifest.Sources = []Source{{Path: "a.go", Lines: []Run{{1, 1, 2}, {2, 9, 1}}}} }, `the lines of the changed file "a.go" are out of order`},
		"changed file without a name":        {func(m *Module) { m.Manifest.Sources = []Source{{}} }, `the lines of the changed file "" are out of order`},
		"later format":                       {func(m *Module) { m.Manifest.Format = 3 }, "the manifest has format 3"},
		"module without name":                {func(m *Module) { m.Manifest.Name = "" }, "gives the module no name"},
		"other language":                     {func(m *Module) { m.Manifest.Language = "cobol" }, `the language "cobol"; this version of Darn knows "go"`},
		"no part for Go":                     {func(m *Module) { m.Manifest.Go = nil }, "the manifest has no part for Go"},
		"for no build":                       {func(m *Module) { m.Manifest.Target = Target{} }, "does not say which build of the target the module is for"},
		"no function":                        {func(m *Module) { m.Manifest.Functions = nil }, "the manifest replaces no function"},
		"function twice": {func(m *Module) {
			m.Manifest.Functions = append(m.Manifest.Functions, m.Manifest.Functions[0])
		}, `the manifest replaces "main.answer" twice`},
		"refusal in the manifest":       {func(m *Module) { m.Manifest.Findings[0].Severity = finding.Error }, "the manifest carries a refusal: error: main.main"},
		"old function without name":     {func(m *Module) { m.Manifest.Functions[0].Symbol = "" }, `replaces a function named ""`},
		"replacement missing":           {func(m *Module) { m.Manifest.Functions[0].New = "main.gone" }, `main.answer: its replacement "main.gone" is not the name of one function`},
		"replacement undefined":         {func(m *Module) { m.Manifest.Functions[0].New = "main.other" }, "is not the name of one function"},
		"replacement is data":           {func(m *Module) { m.Manifest.Functions[0].New = "go:itab.own" }, "is not the name of one function"},
		"replacement not executable":    {func(m *Module) { m.Symbols[2].Addr = 0x3000 }, "main.answer: its replacement at 0x3000 is not in executable memory"},
		"replacement crosses a segment": {func(m *Module) { m.Symbols[2].Addr = 0x1ff8 }, "is not in executable memory"},
		"replacement ambiguous":         {func(m *Module) { m.Symbols[0].Name = "main.answer" }, "is not the name of one function"},
		"old code empty":                {func(m *Module) { m.Manifest.Functions[0].Size = 0 }, "the old code has 0 bytes"},
		"old code huge":                 {func(m *Module) { m.Manifest.Functions[0].Size = 1 << 40 }, "the old code has 1099511627776 bytes"},
		"old code too far":              {func(m *Module) { m.Manifest.Functions[0].Offset = 1 << 32 }, "farther than a jump reaches"},
		"hash malformed":                {func(m *Module) { m.Manifest.Functions[0].SHA256 = "xyz" }, `"xyz" is no SHA-256 of the old code`},
		"lost code without a size":      {func(m *Module) { m.Manifest.Functions[0].Lost = []Code{{Symbol: "f.func1"}} }, `("f.func1", 0x0 bytes at 0x0) can't be a function`},
		"hash too short":                {func(m *Module) { m.Manifest.Functions[0].SHA256 = "00" }, `"00" is no SHA-256`},
		"masked outside":                {func(m *Module) { m.Manifest.Functions[0].Masked[1].Offset = 38 }, "main.answer: the masked field at 38 (4 bytes) lies outside the old code"},
		"masked overlap":                {func(m *Module) { m.Manifest.Functions[0].Masked[1].Offset = 4 }, "overlaps the one before it"},
		"masked empty":                  {func(m *Module) { m.Manifest.Functions[0].Masked[0].Size = 0 }, "the masked field at 1 (0 bytes)"},
		"moduledata outside":            {func(m *Module) { m.Manifest.Go.ModuledataAddr = 0x9000 }, "the moduledata (0x9000, 512 bytes) is not in writable memory"},
		"moduledata read-only":          {func(m *Module) { m.Manifest.Go.ModuledataAddr = 0x3000 }, "is not in writable memory"},
		"moduledata over the edge":      {func(m *Module) { m.Manifest.Go.ModuledataSize = 1 << 62 }, "is not in writable memory"},
		"moduledata empty":              {func(m *Module) { m.Manifest.Go.ModuledataSize = 0 }, "is not in writable memory"},
		"types outside":                 {func(m *Module) { m.Manifest.Go.TypesAddr = 1 << 50 }, "the start of the types (0x4000000000000) or of the text"},
		"text outside":                  {func(m *Module) { m.Manifest.Go.TextAddr = 0x8001 }, "lies outside the module"},
		"type bound and defined":        {func(m *Module) { m.Manifest.Go.Types[0].Symbol = "type:main.I" }, `the manifest binds "type:main.I", which is bound already, or which the module defines`},
		"type bound twice": {func(m *Module) {
			m.Manifest.Go.Types = append(m.Manifest.Go.Types, m.Manifest.Go.Types[0])
		}, `binds "type:main.T", which is bound already`},
		"type without identity":      {func(m *Module) { m.Manifest.Go.Types[0].String = "" }, `the type binding of "type:main.T"`},
		"type too far":               {func(m *Module) { m.Manifest.Go.Types[0].Offset = 1 << 32 }, `the type binding of "type:main.T" (offset 0x100000000`},
		"itab of an unknown type":    {func(m *Module) { m.Manifest.Go.Itabs[0].Type = "type:main.X" }, `refers to a type that the module neither binds nor defines ("type:main.X", "type:main.I")`},
		"own itab missing":           {func(m *Module) { m.Manifest.Go.Itabs[0].Own = "main.other" }, `refers to "main.other", which the module does not define`},
		"itab too far":               {func(m *Module) { m.Manifest.Go.Itabs[0].Static = -1 << 33 }, "farther than 4 GiB"},
		"method slot of odd size":    {func(m *Module) { m.Manifest.Go.Methods[0].Size = 3 }, "the method slot at 0x80 (3 bytes"},
		"method slot twice":          {func(m *Module) { m.Manifest.Go.Methods[1].Offset = 0x80 }, "the method slot at 0x80 (4 bytes"},
		"method slot too far":        {func(m *Module) { m.Manifest.Go.Methods[0].Offset = 1 << 40 }, "the method slot at 0x10000000000"},
		"method slot to nothing":     {func(m *Module) { m.Manifest.Go.Methods[0].Symbol = "main.gone" }, `"main.gone") is malformed`},
		"required module unknown":    {func(m *Module) { m.Manifest.Requires[0].ID = "0a" }, `the module that it requires ("0a", "earlier"`},
		"required module twice":      {func(m *Module) { m.Manifest.Requires = append(m.Manifest.Requires, m.Manifest.Requires[0]) }, "or is there twice"},
		"import of nobody":           {func(m *Module) { m.Manifest.Go.Imports[0].Module = "" }, `the import of "main.shared"`},
		"import too far":             {func(m *Module) { m.Manifest.Go.Imports[0].Offset = 1 << 40 }, `the import of "main.shared"`},
		"import of what is its own":  {func(m *Module) { m.Manifest.Go.Imports[0].Symbol = "go:itab.own" }, `binds "go:itab.own"`},
		"type of a stranger":         {func(m *Module) { m.Manifest.Go.Types[0].Module = "00" }, `the type binding of "type:main.T"`},
		"method slot of a stranger":  {func(m *Module) { m.Manifest.Go.Methods[2].Module = "00" }, "the method slot at 0x80 (4 bytes"},
		"variable that is not there": {func(m *Module) { m.Manifest.Go.Variables[0].Symbol = "main.gone" }, `the variable "main.v" ("main.gone")`},
		"itab bound as a type, too":  {func(m *Module) { m.Manifest.Go.Itabs[0].Symbol = "type:main.T" }, `binds "type:main.T", which is bound already`},
	} {
		t.Run(name, func(t *testing.T) {
			m := sample()
			c.spoil(m)
			refused(t, m.Write(&strings.Builder{}), finding.ModuleMalformed, c.text)
			if m.ID() != "" {
				t.Error("it has an ID")
			}
		})
	}
}

// Each of these files is a sound module but for the bytes that are altered.
func TestFilesThatAreMalformedAreRefused(t *testing.T) {
	sound := encoded(t, sample())
	le := binary.LittleEndian
	ph := func(i int) int { return headerSize + i*progSize }
	sh := func(data []byte, i int) int { return int(le.Uint64(data[40:])) + i*sectionSize }
	// Sections: 0 null, 1-4 segments, 5 note, 6 symbols, 7 strings, 8 relocations, 9 names.
	const note, symtab, strtab, rela, shstrtab = 5, 6, 7, 8, 9
	content := func(data []byte, i int) []byte { return data[le.Uint64(data[sh(data, i)+24:]):] }
	for name, c := range map[string]struct {
		spoil func(b []byte) []byte
		text  string
	}{
		"empty":                          {func(b []byte) []byte { return nil }, "not an ELF file"},
		"text file":                      {func(b []byte) []byte { return []byte("#!/bin/sh\necho module\n") }, "not an ELF file"},
		"header truncated":               {func(b []byte) []byte { return b[:40] }, "the ELF header is truncated"},
		"end truncated":                  {func(b []byte) []byte { return b[:len(b)-1] }, "the section header table lies outside the file"},
		"half truncated":                 {func(b []byte) []byte { return b[:0x1800] }, "program header 1 lies outside the file"},
		"program headers truncated":      {func(b []byte) []byte { return b[:100] }, "the program header table lies outside the file"},
		"32 bit":                         {func(b []byte) []byte { b[4] = 1; return b }, "the file is ELFCLASS32"},
		"big endian":                     {func(b []byte) []byte { b[5] = 2; return b }, "ELFDATA2MSB"},
		"other architecture":             {func(b []byte) []byte { le.PutUint16(b[18:], uint16(elf.EM_AARCH64)); return b }, "the file is for EM_AARCH64; a module is for EM_X86_64"},
		"executable":                     {func(b []byte) []byte { b[16] = byte(elf.ET_EXEC); return b }, "the file is ET_EXEC; a module is a shared object"},
		"relocatable object":             {func(b []byte) []byte { b[16] = byte(elf.ET_REL); return b }, "the file is ET_REL"},
		"ELF version":                    {func(b []byte) []byte { b[6] = 9; return b }, "the ELF version is"},
		"odd program headers":            {func(b []byte) []byte { b[54] = 32; return b }, "program headers have 32 bytes, not 56"},
		"odd section headers":            {func(b []byte) []byte { b[58] = 40; return b }, "section headers have 40 bytes, not 64"},
		"no section headers":             {func(b []byte) []byte { le.PutUint16(b[60:], 0); le.PutUint16(b[62:], 0); return b }, "section 0, which should hold the section names, does not exist"},
		"too many headers":               {func(b []byte) []byte { le.PutUint16(b[60:], 0xff00); return b }, "section headers are too many"},
		"more program headers than file": {func(b []byte) []byte { le.PutUint16(b[56:], 0xfff0); return b }, "the program header table lies outside the file"},
		"program header offset wraps":    {func(b []byte) []byte { le.PutUint64(b[32:], ^uint64(0)-16); return b }, "the program header table lies outside the file"},
		"segment outside the file":       {func(b []byte) []byte { le.PutUint64(b[ph(0)+8:], 1<<62); return b }, "program header 0 lies outside the file"},
		"segment size wraps":             {func(b []byte) []byte { le.PutUint64(b[ph(0)+32:], ^uint64(0)); return b }, "program header 0 lies outside the file"},
		"dynamic segment":                {func(b []byte) []byte { le.PutUint32(b[ph(3):], uint32(elf.PT_DYNAMIC)); return b }, "a program header of type PT_DYNAMIC has no place in a module"},
		"interpreter":                    {func(b []byte) []byte { le.PutUint32(b[ph(3):], uint32(elf.PT_INTERP)); return b }, "PT_INTERP has no place"},
		"note cut":                       {func(b []byte) []byte { le.PutUint64(b[ph(4)+32:], 40); return b }, "a note is truncated"},
		"note header cut":                {func(b []byte) []byte { le.PutUint64(b[ph(4)+32:], 8); return b }, "a note is truncated"},
		"note name too long":             {func(b []byte) []byte { le.PutUint32(content(b, note), ^uint32(0)); return b }, "a note is truncated"},
		"two manifests":                  {func(b []byte) []byte { copy(b[ph(3):], b[ph(4):ph(5)]); return b }, "there is more than one manifest"},
		"manifest is no JSON":            {func(b []byte) []byte { content(b, note)[20] = '?'; return b }, "the manifest is not valid JSON: invalid character '?'"},
		"manifest of a later format":     {func(b []byte) []byte { return replaced(b, `"format":2`, `"format":3`) }, "the manifest has format 3; this version of Darn reads format 2"},
		"manifest field of wrong type":   {func(b []byte) []byte { return replaced(b, `"size":40`, `"size":""`) }, "the manifest cannot be decoded"},
		"manifest field unknown":         {func(b []byte) []byte { return replaced(b, `"masked"`, `"maskee"`) }, `the manifest cannot be decoded: json: unknown field "maskee"`},
		"section without name":           {func(b []byte) []byte { le.PutUint32(b[sh(b, 1):], 0); return b }, "section 1 has no name"},
		"section name outside":           {func(b []byte) []byte { le.PutUint32(b[sh(b, 1):], 1<<30); return b }, "section 1 has no name"},
		"section shows other bytes":      {func(b []byte) []byte { le.PutUint64(b[sh(b, 1)+24:], 0x2000); return b }, `section 1 (".text") does not show what segment 0x1000 loads`},
		"section shows fewer bytes":      {func(b []byte) []byte { b[sh(b, 1)+32]--; return b }, "does not show what segment 0x1000 loads"},
		"section of another size":        {func(b []byte) []byte { b[sh(b, 4)+33]--; return b }, `section 4 (".bss") does not show what segment 0x6000 loads`},
		"section without segment":        {func(b []byte) []byte { le.PutUint64(b[sh(b, 1)+16:], 0x100000); return b }, "does not describe a segment of its own"},
		"two sections for a segment":     {func(b []byte) []byte { le.PutUint64(b[sh(b, 2)+16:], 0x1000); return b }, "does not describe a segment of its own"},
		"segment without section":        {func(b []byte) []byte { le.PutUint64(b[sh(b, 1)+8:], 0); return b }, "no section describes the segment at 0x1000"},
		"section of unknown type":        {func(b []byte) []byte { le.PutUint32(b[sh(b, rela)+4:], uint32(elf.SHT_DYNAMIC)); return b }, "of type SHT_DYNAMIC has no place in a module"},
		"debug section outside":          {func(b []byte) []byte { le.PutUint64(b[sh(b, 1)+8:], 0); le.PutUint64(b[sh(b, 1)+32:], 1<<40); return b }, "section 1 lies outside the file"},
		"two symbol tables":              {func(b []byte) []byte { le.PutUint32(b[sh(b, rela)+4:], uint32(elf.SHT_SYMTAB)); return b }, "of type SHT_SYMTAB has no place"},
		"no symbol table":                {func(b []byte) []byte { le.PutUint32(b[sh(b, symtab)+4:], uint32(elf.SHT_NOTE)); return b }, "there is no symbol table"},
		"names not strings":              {func(b []byte) []byte { le.PutUint32(b[sh(b, shstrtab)+4:], uint32(elf.SHT_PROGBITS)); return b }, "section 9 is not of type SHT_STRTAB"},
		"strings missing":                {func(b []byte) []byte { le.PutUint32(b[sh(b, symtab)+40:], 1<<20); return b }, "section 1048576 is not of type SHT_STRTAB"},
		"symbol table of odd size":       {func(b []byte) []byte { b[sh(b, symtab)+32]--; return b }, "the symbol table (239 bytes, 3 local symbols) is malformed"},
		"symbol table empty":             {func(b []byte) []byte { b[sh(b, symtab)+32] = 0; return b }, "the symbol table (0 bytes"},
		"more local symbols than all":    {func(b []byte) []byte { le.PutUint32(b[sh(b, symtab)+44:], 1<<31); return b }, "local symbols) is malformed"},
		"local count wrong":              {func(b []byte) []byte { b[sh(b, symtab)+44]--; return b }, "has binding STB_LOCAL, which is not allowed there"},
		"weak symbol":                    {func(b []byte) []byte { content(b, symtab)[5*symbolSize+4] = 0x21; return b }, "has binding STB_WEAK, which is not allowed there"},
		"symbol without name":            {func(b []byte) []byte { le.PutUint32(content(b, symtab)[symbolSize:], 0); return b }, "symbol 1 has no name"},
		"symbol name outside":            {func(b []byte) []byte { le.PutUint32(content(b, symtab)[symbolSize:], 1<<30); return b }, "symbol 1 has no name"},
		"strings not terminated":         {func(b []byte) []byte { b[sh(b, strtab)+32]--; return b }, "symbol 9 has no name"},
		"relocations of odd size":        {func(b []byte) []byte { b[sh(b, rela)+32]--; return b }, "the relocation section has 95 bytes, no multiple of 24"},
		"relocations of other symbols":   {func(b []byte) []byte { b[sh(b, rela)+40]++; return b }, "the relocations refer to section 7, which is not the symbol table"},
		"relocation of symbol 2^32-1":    {func(b []byte) []byte { le.PutUint32(content(b, rela)[12:], ^uint32(0)); return b }, "refers to symbol 4294967294, which does not exist"},
		"relocation out of order":        {func(b []byte) []byte { le.PutUint64(content(b, rela), 0x6000); return b }, "is out of order"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Read(c.spoil(append([]byte(nil), sound...)))
			refused(t, err, finding.ModuleMalformed, c.text)
		})
	}
}

// replaced replaces the first occurrence of old by new, of the same length.
func replaced(b []byte, old, new string) []byte {
	if i := strings.Index(string(b), old); i >= 0 && len(old) == len(new) {
		copy(b[i:], new)
	}
	return b
}

func TestOpenReadsRegularFilesOnly(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{fifo, dir, "/dev/zero"} {
		_, err := Open(path)
		refused(t, err, finding.ModuleMalformed, path+" is not a regular file")
	}
	if _, err := Open(filepath.Join(dir, "gone")); !os.IsNotExist(err) {
		t.Errorf("a file that is not there: %v", err)
	}
}

func TestOpenRefusesAFileThatIsTooLarge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.so")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(MaxFile + 1); err != nil { // a hole: no memory, no disk
		t.Fatal(err)
	}
	_, err = Open(path)
	refused(t, err, finding.ModuleMalformed, "a module has at most 1073741824")
}

// Many symbols that share one long name must not make Read copy it for each.
func TestNamesAreBounded(t *testing.T) {
	m := sample()
	long := strings.Repeat("x", 1<<20)
	m.Symbols = append(m.Symbols, Symbol{Name: long, Type: elf.STT_FUNC, Undefined: true})
	for range 10000 {
		m.Symbols = append(m.Symbols, Symbol{Name: "main.local", Type: elf.STT_FUNC, Addr: 0x1010, Local: true})
	}
	data := encoded(t, m)
	r := reader{data: data, names: 16 * len(data)}
	if err := r.header(); err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(data), long)
	// All local symbols get the long name.
	table := int(binary.LittleEndian.Uint64(data[int(r.h.Shoff)+6*sectionSize+24:]))
	strings0 := int(binary.LittleEndian.Uint64(data[int(r.h.Shoff)+7*sectionSize+24:]))
	for i := 1; i <= 10000; i++ {
		binary.LittleEndian.PutUint32(data[table+i*symbolSize:], uint32(at-strings0))
	}
	_, err := Read(data)
	refused(t, err, finding.ModuleMalformed, "has no name")
}
