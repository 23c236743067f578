package link

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/module"
)

// maxTypeString bounds the name of a type, in bytes (the compiler's own bound
// is 1<<29, for names that nobody writes).
const maxTypeString = 1 << 20

// targetType returns the address of a type of the target, after checking that
// what is there is that type. Its structure was compared by the builder; this
// tells whether it was compared with this target.
func (b *binder) targetType(x *module.TypeBinding) (uint64, error) {
	if x.Module != "" {
		return b.importedType(x)
	}
	addr := b.types.Start + x.Offset
	if x.Offset > math.MaxUint32 || !b.types.Holds(addr, TypeBytes) || len(x.String) > maxTypeString {
		return 0, b.wrongType(x, "there is no type")
	}
	var t [TypeBytes]byte
	if err := b.t.ReadMemory(t[:], addr); err != nil {
		return 0, err
	}
	le := binary.LittleEndian
	hash, size, kind := le.Uint32(t[TypeHash:]), le.Uint64(t[TypeSize:]), t[TypeKind]&kindMask
	if hash != x.Hash || size != x.Size || kind != x.Kind&kindMask {
		return 0, b.wrongType(x, fmt.Sprintf("there is one with hash %#x, %d bytes, kind %d", hash, size, kind))
	}
	want := x.String
	if t[TypeTFlag]&tflagExtraStar != 0 {
		want = "*" + want
	}
	name, err := b.typeName(le.Uint32(t[TypeStr:]), len(want))
	if err != nil {
		return 0, err
	}
	if name != want {
		return 0, b.wrongType(x, fmt.Sprintf("there is %q", name))
	}
	return addr, nil
}

// typeName reads the name at a NameOff of the target (abi.Name: a byte of
// flags, the length as a varint, the bytes), or returns "" if its length is
// not n.
func (b *binder) typeName(off uint32, n int) (string, error) {
	addr := b.types.Start + uint64(off)
	head := binary.AppendUvarint(make([]byte, 1, 16), uint64(n))
	if !b.types.Holds(addr, uint64(len(head)+n)) {
		return "", nil
	}
	name := make([]byte, len(head)+n)
	if err := b.t.ReadMemory(name, addr); err != nil {
		return "", err
	}
	if string(name[1:len(head)]) != string(head[1:]) {
		return "", nil
	}
	return string(name[len(head):]), nil
}

func (b *binder) wrongType(x *module.TypeBinding, why string) error {
	return refuse(finding.TypeLayoutChanged, x.String,
		fmt.Sprintf("the program's type %s is not where the module has it (offset %#x): %s", x.String, x.Offset, why),
		"build the module against the program that runs")
}

// itab returns the address of the itab of a pair: the target's, or that of the
// dynamic one that the runtime has made, or that of the module's own copy,
// which is then to be published. Values that live hold pointers to the first
// two, and interface values are compared by that pointer.
func (b *binder) itab(x *module.ItabBinding) (uint64, error) {
	inter, typ, err := b.pair(x)
	if err != nil {
		return 0, err
	}
	if x.HasStatic {
		addr := b.types.Start + uint64(x.Static)
		if !b.t.IsItab(addr, ITabFun+8) {
			return 0, b.wrongItab(x, addr, "there is none")
		}
		var tab [ITabFun]byte
		if err := b.t.ReadMemory(tab[:], addr); err != nil {
			return 0, err
		}
		le := binary.LittleEndian
		if i, t, h := le.Uint64(tab[ITabInter:]), le.Uint64(tab[ITabType:]), le.Uint32(tab[ITabHash:]); i != inter || t != typ || h != x.Hash {
			return 0, b.wrongItab(x, addr, fmt.Sprintf("that one is of the pair %#x, %#x", t, i))
		}
		return addr, nil
	}
	// A pair with a type of the module's own is new to the runtime.
	if b.typeOf[x.Inter] != nil && b.typeOf[x.Type] != nil {
		addr, ok, err := b.t.Itab(inter, typ)
		if err != nil || ok {
			return addr, err
		}
	}
	if x.Own == "" {
		return 0, refuse(finding.SymbolUnresolved, x.Symbol,
			"the program has no such itab, and the module brings none", "build the module against the program that runs")
	}
	own, err := b.own(x.Own)
	if err != nil {
		return 0, err
	}
	b.publish[x.Symbol] = true
	return own + b.image.Base, nil
}

// pair returns the addresses of an itab's interface and type, each the
// target's or the module's own.
func (b *binder) pair(x *module.ItabBinding) (inter, typ uint64, err error) {
	for _, p := range []struct {
		name string
		addr *uint64
	}{{x.Inter, &inter}, {x.Type, &typ}} {
		if b.typeOf[p.name] != nil {
			*p.addr, err = b.address(p.name)
		} else if *p.addr, err = b.own(p.name); err == nil {
			*p.addr += b.image.Base
		}
		if err != nil {
			return 0, 0, err
		}
	}
	return inter, typ, nil
}

// own returns the module's address of a symbol that it defines.
func (b *binder) own(name string) (uint64, error) {
	i, ok := b.byName[name]
	if !ok || i < 0 || b.m.Symbols[i].Undefined {
		return 0, malformed("%q is not the name of one symbol that it defines", name)
	}
	return b.m.Symbols[i].Addr, nil
}

// ownItab checks the module's own copy of an itab and prepares it for the
// runtime. It runs after the relocations.
func (b *binder) ownItab(x *module.ItabBinding) (*Itab, error) {
	inter, typ, err := b.pair(x)
	if err != nil {
		return nil, err
	}
	addr, err := b.own(x.Own)
	if err != nil {
		return nil, err
	}
	tab := b.bytes(addr, ITabFun+8)
	if tab == nil {
		return nil, malformed("its itab %q is not in a segment", x.Own)
	}
	le := binary.LittleEndian
	if le.Uint64(tab[ITabInter:]) != inter || le.Uint64(tab[ITabType:]) != typ || le.Uint32(tab[ITabHash:]) != x.Hash {
		return nil, malformed("its itab %q is not of %s and %s", x.Own, x.Type, x.Inter)
	}
	interHash, err := b.hash(x.Inter)
	if err != nil {
		return nil, err
	}
	typeHash, err := b.hash(x.Type)
	if err != nil {
		return nil, err
	}
	if typeHash != x.Hash {
		return nil, malformed("its itab %q has the hash %#x, its type has %#x", x.Own, x.Hash, typeHash)
	}
	return &Itab{Addr: b.image.Base + addr, Inter: inter, Type: typ, Hash: interHash ^ typeHash}, nil
}

// hash returns abi.Type.Hash of a type that is bound or the module's own.
func (b *binder) hash(name string) (uint32, error) {
	if x := b.typeOf[name]; x != nil {
		return x.Hash, nil
	}
	addr, err := b.own(name)
	if err != nil {
		return 0, err
	}
	t := b.bytes(addr, TypeBytes)
	if t == nil {
		return 0, malformed("its type %q is not in a segment", name)
	}
	return binary.LittleEndian.Uint32(t[TypeHash:]), nil
}

func (b *binder) wrongItab(x *module.ItabBinding, addr uint64, why string) error {
	return refuse(finding.TypeLayoutChanged, x.Symbol,
		fmt.Sprintf("the program's itab is not where the module has it (%#x): %s", addr, why),
		"build the module against the program that runs")
}
