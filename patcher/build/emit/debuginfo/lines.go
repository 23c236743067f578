package debuginfo

import (
	"encoding/binary"
	"slices"
)

// files is a unit's part of .debug_line, and which of its files the patch has.
type files struct {
	unit        *unit
	head        []byte // from minimum_instruction_length to standard_opcode_lengths
	opcodes     []byte // standard_opcode_lengths
	folders     []string
	names       []file
	first       uint64 // number of the first of names
	code        *buffer
	used, useds []uint64 // files, folders
}

type file struct {
	name   string
	folder uint64
}

// files reads a unit's tables, nil if it has none.
func (u *unit) files() (*files, error) {
	at, ok := u.root.get(attrStmtList)
	if !ok {
		return nil, nil
	}
	data := u.Sections["line"]
	bad := func(what string) error { return malformed("the lines at %#x %s", at.n, what) }
	b := buf(data, int(min(at.n, uint64(len(data))+1)), len(data))
	size := b.uint(4)
	if b.bad || size > uint64(len(data)-b.at) {
		return nil, bad("have no end")
	}
	end := b.at + int(size)
	b = buf(data, b.at, end)
	version := b.uint(2)
	if version < 2 || version > 5 {
		return nil, bad("are of an unknown version")
	}
	if version == 5 {
		b.uint(2)
	}
	size = b.uint(4)
	if b.bad || size > uint64(end-b.at) {
		return nil, bad("have a header without end")
	}
	f := &files{unit: u, code: buf(data, b.at+int(size), end)}
	f.head = append(f.head, b.bytes(1)...)
	if version >= 4 {
		f.head = append(f.head, b.bytes(1)...)
	} else {
		f.head = append(f.head, 1) // maximum_operations_per_instruction
	}
	f.head = append(f.head, b.bytes(4)...)
	if b.bad || f.head[len(f.head)-1] == 0 {
		return nil, bad("have a bad header")
	}
	f.opcodes = b.bytes(uint64(f.head[len(f.head)-1]) - 1)
	f.head = append(f.head, f.opcodes...)
	if version == 5 {
		f.table(b, func(text string, _ uint64) { f.folders = append(f.folders, text) })
		f.table(b, func(text string, folder uint64) { f.names = append(f.names, file{text, folder}) })
	} else {
		f.tables4(b)
	}
	if b.bad {
		return nil, bad("have a malformed table")
	}
	return f, nil
}

// table reads a table of DWARF 5.
func (f *files) table(b *buffer, add func(text string, folder uint64)) {
	var format []spec
	for range b.uint(1) {
		format = append(format, spec{b.uleb(), b.uleb()})
	}
	for n := b.uleb(); n > 0 && !b.bad; n-- {
		var text string
		var folder uint64
		for _, s := range format {
			switch {
			case s.attr == linePath && s.form == formString:
				text = b.text()
			case s.attr == lineDirectory && s.form == formUdata:
				folder = b.uleb()
			default:
				b.bad = true
			}
		}
		if len(format) == 0 {
			b.bad = true
		}
		add(text, folder)
	}
}

// tables4 reads both tables of DWARF 4, in which folder 0 is the unit's own, and
// the first file has the number 1.
func (f *files) tables4(b *buffer) {
	f.folders, f.first = []string{""}, 1
	for text := b.text(); text != ""; text = b.text() {
		f.folders = append(f.folders, text)
	}
	for text := b.text(); text != ""; text = b.text() {
		f.names = append(f.names, file{text, b.uleb()})
		b.uleb()
		b.uleb()
	}
}

// number returns the patch's number of a file.
func (f *files) number(n uint64) (uint64, error) {
	if n < f.first || n-f.first >= uint64(len(f.names)) {
		return 0, malformed("file %d of the unit at %#x is not in its table", n, f.unit.start)
	}
	i := slices.Index(f.used, n)
	if i < 0 {
		i = len(f.used)
		f.used = append(f.used, n)
	}
	return uint64(i) + 1, nil
}

// lines writes the unit's part of .debug_line: the sequences of the patch's
// functions.
func (w *writer) lines(f *files) error {
	code, err := w.sequences(f)
	if err != nil {
		return err
	}
	head := slices.Clone(f.head)
	var names []byte
	for _, n := range f.used {
		x := f.names[n-f.first]
		folder := uint64(0)
		if x.folder != 0 {
			if x.folder >= uint64(len(f.folders)) {
				return malformed("the file %s is in a folder that is not in the table", x.name)
			}
			i := slices.Index(f.useds, x.folder)
			if i < 0 {
				i = len(f.useds)
				f.useds = append(f.useds, x.folder)
				head = append(append(head, f.folders[x.folder]...), 0)
			}
			folder = uint64(i) + 1
		}
		names = binary.AppendUvarint(append(append(names, x.name...), 0), folder)
		names = append(names, 0, 0) // time and size: not known
	}
	head = append(append(append(head, 0), names...), 0)
	w.line = le.AppendUint32(w.line, uint32(2+4+len(head)+len(code)))
	w.line = le.AppendUint32(le.AppendUint16(w.line, 4), uint32(len(head)))
	w.line = append(append(w.line, head...), code...)
	return nil
}

// sequences returns the line number programs of the patch's functions. The
// compiler makes a sequence for each function.
func (w *writer) sequences(f *files) (out []byte, err error) {
	b := f.code
	var seq []byte
	keep, number, written := false, uint64(1), uint64(0)
	row := func() error {
		if number == written || !keep {
			return nil
		}
		n, err := f.number(number)
		seq = binary.AppendUvarint(append(seq, lineSetFile), n)
		written = number
		return err
	}
	for b.left() {
		at := b.at
		op := b.uint(1)
		switch {
		case op == 0:
			end := b.uleb()
			args := b.bytes(end)
			if len(args) == 0 {
				return nil, malformed("the lines of the unit at %#x have an empty instruction", f.unit.start)
			}
			switch {
			case args[0] == lineSetAddress && len(args) == 1+addressSize:
				to, ok := w.patch.move(le.Uint64(args[1:]))
				if _, begins := w.patch.begins(le.Uint64(args[1:])); begins {
					keep = true
				} else if keep && !ok {
					return nil, malformed("a sequence of lines in the unit at %#x is of more than a function", f.unit.start)
				}
				seq = le.AppendUint64(append(seq, 0, 1+addressSize, lineSetAddress), to)
				continue
			case args[0] == lineEndSequence:
				if keep {
					out = append(append(out, seq...), b.data[at:b.at]...)
				}
				seq, keep, number, written = nil, false, 1, 0
				continue
			}
		case op >= uint64(len(f.opcodes))+1, op == lineCopy:
			if err := row(); err != nil {
				return nil, err
			}
		case op == lineSetFile:
			number = b.uleb()
			continue
		case op == lineFixedAdvancePC:
			b.bytes(2)
		default:
			for range f.opcodes[op-1] {
				b.uleb()
			}
		}
		seq = append(seq, b.data[at:b.at]...)
	}
	if b.bad {
		return nil, malformed("the lines of the unit at %#x have no end", f.unit.start)
	}
	return out, nil
}
