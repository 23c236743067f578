package goruntime

import "fmt"

// This file reads the tables with which the runtime walks stacks (symtab.go
// and stkframe.go in Go's runtime), from the target's memory.

// Indices of tables (internal/abi/symtab.go); the same since Go 1.17.
const (
	pcdataStackMap     = 1
	funcdataArgs       = 0
	funcdataLocals     = 1
	funcdataStackObjs  = 2
	flagTopFrame       = 1 << 0
	flagSPWrite        = 1 << 1
	argsSizeUnknown    = -1 << 31
	funcTabBucket      = 4096
	funcTabBucketBytes = 20 // of findfuncbucket
	funcTabSubBucket   = 256
)

// snapshot reads memory of a halted target; what was read once is not read
// again.
type snapshot struct {
	r       *Runtime
	blocks  map[uint64][]byte
	modules []moduledata
	// funcs caches findFunc by program counter.
	funcs map[uint64]*function
}

// blockSize is the unit of a snapshot's reads, in bytes.
const blockSize = 4096

func (r *Runtime) snapshot() *snapshot {
	return &snapshot{r: r, blocks: make(map[uint64][]byte), funcs: make(map[uint64]*function)}
}

// read fills buf. What can't be read is zero, and reported.
func (s *snapshot) read(buf []byte, addr uint64) bool {
	for len(buf) > 0 {
		base := addr &^ (blockSize - 1)
		block, ok := s.blocks[base]
		if !ok {
			block = make([]byte, blockSize)
			if s.r.mem.ReadMemory(block, base) != nil {
				block = nil
			}
			s.blocks[base] = block
		}
		if block == nil {
			return false
		}
		n := copy(buf, block[addr-base:])
		buf, addr = buf[n:], addr+uint64(n)
	}
	return true
}

func (s *snapshot) u8(addr uint64) uint8 {
	var b [1]byte
	s.read(b[:], addr)
	return b[0]
}

func (s *snapshot) u32(addr uint64) uint32 {
	var b [4]byte
	s.read(b[:], addr)
	return le.Uint32(b[:])
}

func (s *snapshot) u64(addr uint64) uint64 {
	var b [8]byte
	s.read(b[:], addr)
	return le.Uint64(b[:])
}

// moduledata is one runtime.moduledata.
type moduledata struct {
	addr                              uint64
	text, etext, minpc, maxpc         uint64
	pctab, pclntable, ftab            uint64
	nftab, findfunctab, gofunc, names uint64
	next                              uint64
	noptrdata, noptrbss, types        Range
}

func (s *snapshot) moduledata(addr uint64) moduledata {
	l := &s.r.layout.moduledata
	at := func(off uint64) uint64 { return s.u64(addr + off) }
	return moduledata{
		addr: addr, text: at(l.text), etext: at(l.etext), minpc: at(l.minpc), maxpc: at(l.maxpc),
		pctab: at(l.pctab), pclntable: at(l.pclntable), ftab: at(l.ftab), nftab: at(l.ftab + 8),
		findfunctab: at(l.findfunctab), gofunc: at(l.gofunc), names: at(l.funcnametab), next: at(l.next),
		noptrdata: Range{Start: at(l.noptrdata), End: at(l.enoptrdata)},
		types:     Range{Start: at(l.types), End: at(l.etypes)},
		noptrbss:  Range{Start: at(l.noptrbss), End: at(l.enoptrbss)},
	}
}

// chain reads the chain of modules, once.
func (s *snapshot) chain() []moduledata {
	if s.modules == nil {
		for addr := s.r.firstmoduledata; addr != 0 && len(s.modules) < maxModules; {
			d := s.moduledata(addr)
			s.modules = append(s.modules, d)
			addr = d.next
		}
	}
	return s.modules
}

// function is what a runtime._func says.
type function struct {
	module      *moduledata
	entry       uint64
	addr        uint64 // of the _func
	nameOff     uint32
	args        int32
	deferreturn uint32
	pcsp        uint32
	npcdata     uint32
	flag        uint8
	nfuncdata   uint8
}

// findFunc returns the function that holds pc, or nil.
func (s *snapshot) findFunc(pc uint64) *function {
	if f, ok := s.funcs[pc]; ok {
		return f
	}
	f := s.lookFunc(pc)
	s.funcs[pc] = f
	return f
}

func (s *snapshot) lookFunc(pc uint64) *function {
	modules := s.chain()
	for i := range modules {
		d := &modules[i]
		if pc < d.minpc || pc >= d.maxpc || pc < d.text || pc-d.text >= 1<<32 {
			continue
		}
		off := uint32(pc - d.text)
		x := pc - d.minpc
		bucket := d.findfunctab + x/funcTabBucket*funcTabBucketBytes
		idx := uint64(s.u32(bucket)) + uint64(s.u8(bucket+4+x%funcTabBucket/funcTabSubBucket))
		for idx+1 < d.nftab && s.u32(d.ftab+8*(idx+1)) <= off {
			idx++
		}
		if idx+1 >= d.nftab {
			return nil
		}
		l := &s.r.layout.fn
		addr := d.pclntable + uint64(s.u32(d.ftab+8*idx+4))
		raw := make([]byte, l.size)
		if !s.read(raw, addr) {
			return nil
		}
		return &function{
			module: d, addr: addr,
			entry:       d.text + uint64(le.Uint32(raw[l.entry:])),
			nameOff:     le.Uint32(raw[l.name:]),
			args:        int32(le.Uint32(raw[l.args:])),
			deferreturn: le.Uint32(raw[l.deferreturn:]),
			pcsp:        le.Uint32(raw[l.pcsp:]),
			npcdata:     le.Uint32(raw[l.npcdata:]),
			flag:        raw[l.flag], nfuncdata: raw[l.nfuncdata],
		}
	}
	return nil
}

// maxName bounds the name of a function, in bytes.
const maxName = 4096

// name returns the name of a function.
func (s *snapshot) name(f *function) string {
	var name []byte
	for at := f.module.names + uint64(f.nameOff); len(name) < maxName; at++ {
		c := s.u8(at)
		if c == 0 {
			break
		}
		name = append(name, c)
	}
	return string(name)
}

// nameAt returns the name of the function that holds pc, or its address.
func (s *snapshot) nameAt(pc uint64) string {
	if f := s.findFunc(pc); f != nil {
		return s.name(f)
	}
	return fmt.Sprintf("%#x", pc)
}

// describe names a word: the function it leads into, or a number.
func (s *snapshot) describe(word uint64) string {
	if f := s.findFunc(word); f != nil {
		return fmt.Sprintf("%s+%#x", s.name(f), word-f.entry)
	}
	return fmt.Sprintf("%#x", word)
}

// pcValue decodes the table at offset off of pctab for pc (pcvalue and step).
func (s *snapshot) pcValue(f *function, off uint32, pc uint64) (int32, bool) {
	if off == 0 {
		return -1, true
	}
	at := f.module.pctab + uint64(off)
	next := func() (v uint32) {
		for shift := 0; shift < 35; shift += 7 {
			b := s.u8(at)
			at++
			v |= uint32(b&0x7f) << shift
			if b&0x80 == 0 {
				break
			}
		}
		return v
	}
	val, until := int32(-1), f.entry
	for first := true; ; first = false {
		delta := next()
		if delta == 0 && !first {
			return 0, false // the end of the table
		}
		val += int32(-(delta & 1) ^ (delta >> 1))
		if until += uint64(next()); pc < until {
			return val, true
		}
	}
}

// pcData returns the value of PCDATA table i at pc.
func (s *snapshot) pcData(f *function, i uint32, pc uint64) (int32, bool) {
	if i >= f.npcdata {
		return -1, true
	}
	return s.pcValue(f, s.u32(f.addr+s.r.layout.fn.size+4*uint64(i)), pc)
}

// funcData returns the address of FUNCDATA i, or 0.
func (s *snapshot) funcData(f *function, i uint8) uint64 {
	if i >= f.nfuncdata {
		return 0
	}
	off := s.u32(f.addr + s.r.layout.fn.size + 4*uint64(f.npcdata) + 4*uint64(i))
	if off == 1<<32-1 {
		return 0
	}
	return f.module.gofunc + uint64(off)
}

func (s *snapshot) u16(addr uint64) uint16 {
	var b [2]byte
	s.read(b[:], addr)
	return le.Uint16(b[:])
}
