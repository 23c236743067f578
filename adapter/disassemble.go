package adapter

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"sort"
	"strconv"

	"github.com/go-delve/delve/pkg/locspec"
	"github.com/go-delve/delve/pkg/proc"
	"github.com/google/go-dap"
)

// Delve disassembles what is between the functions too, and takes the gigabyte
// between the program and a module for such a place: an editor that asks for what
// comes before a module's first function, as each does that shows a page, would
// wait for minutes. It is the same between a program of C and its libraries, and
// there it takes all memory too. So where modules are loaded, and for programs
// without goroutines, the request is answered here, of the functions of the one
// image that the address lies in.

// disassemble answers a request of the client's, if there are modules or no
// goroutines. It returns whether it does.
func (s *patches) disassemble(h *header) bool {
	var a dap.DisassembleArguments
	native := s.p.threads.are()
	if len(s.files()) == 0 && !native || json.Unmarshal(h.Arguments, &a) != nil || s.p.mustBeStopped() != nil {
		return false
	}
	addr, err := strconv.ParseUint(a.MemoryReference, 0, 64)
	if err != nil {
		return false
	}
	addr += uint64(a.Offset)
	var page []dap.DisassembledInstruction
	ctx, cancel := context.WithTimeout(context.Background(), holdPatience)
	defer cancel()
	_, err = s.p.withTarget(ctx, func(group *proc.TargetGroup) error {
		all, at, err := around(group.Selected, addr, a.InstructionOffset, a.InstructionCount)
		if at < 0 && native {
			all, at, err = behind(group.Selected, addr, max(a.InstructionOffset+a.InstructionCount, 1))
		}
		if err != nil || at < 0 {
			return err
		}
		page = s.show(group.Selected.BinInfo(), all, at+a.InstructionOffset, a.InstructionCount)
		return nil
	})
	if err != nil {
		s.p.refuse(h, fmt.Errorf("unable to disassemble: %w", err))
		return true
	}
	if page == nil {
		return false // nothing that is known to be code
	}
	s.p.respond(h, dap.DisassembleResponseBody{Instructions: page})
	return true
}

// around returns the instructions of the function at an address and of its
// neighbours, as many of them as it takes to have count from offset on, and which
// of them the address is; that is negative if there is no function.
func around(target *proc.Target, addr uint64, offset, count int) (all []proc.AsmInstruction, at int, err error) {
	bi := target.BinInfo()
	fn := bi.PCToFunc(addr)
	if fn == nil {
		return nil, -1, nil
	}
	image := bi.PCToImage(fn.Entry)
	read := func(fn *proc.Function) ([]proc.AsmInstruction, error) {
		if image != bi.Images[0] && unused(target, fn.Entry) {
			return nil, nil
		}
		return proc.Disassemble(target.Memory(), nil, target.Breakpoints(), bi, fn.Entry, fn.End)
	}
	here := sort.Search(len(bi.Functions), func(i int) bool { return bi.Functions[i].Entry >= fn.Entry })
	if all, err = read(fn); err != nil {
		return nil, 0, err
	}
	at = slices.IndexFunc(all, func(i proc.AsmInstruction) bool { return i.Loc.PC == addr })
	if at < 0 {
		return nil, 0, fmt.Errorf("%#x is within an instruction", addr)
	}
	inImage := func(i int) bool {
		return i >= 0 && i < len(bi.Functions) && bi.PCToImage(bi.Functions[i].Entry) == image
	}
	for i := here - 1; at+offset < 0 && inImage(i); i-- {
		before, err := read(&bi.Functions[i])
		if err != nil {
			return nil, 0, err
		}
		at += len(before)
		all = append(before, all...)
	}
	for i := here + 1; at+offset+count > len(all) && inImage(i); i++ {
		after, err := read(&bi.Functions[i])
		if err != nil {
			return nil, 0, err
		}
		all = append(all, after...)
	}
	return all, at, nil
}

// behind returns count instructions from an address on of which no function is
// known, as far as memory can be read: nothing tells where those before it begin.
func behind(target *proc.Target, addr uint64, count int) (all []proc.AsmInstruction, at int, err error) {
	const longest, page = 15, 4096
	end := addr + uint64(min(count, 1000)*longest)
	all, err = proc.Disassemble(target.Memory(), nil, target.Breakpoints(), target.BinInfo(), addr, end)
	if next := addr&^(page-1) + page; err != nil && end > next {
		all, err = proc.Disassemble(target.Memory(), nil, target.Breakpoints(), target.BinInfo(), addr, next)
	}
	return all, 0, err
}

// show returns count instructions, from that with an index on, as the client sees
// them. Those that there are not are invalid, as Delve has it.
func (s *patches) show(bi *proc.BinaryInfo, all []proc.AsmInstruction, from, count int) []dap.DisassembledInstruction {
	s.p.mu.Lock()
	var back [][2]string
	for _, rule := range s.p.substitute {
		back = append(back, [2]string{rule[1], rule[0]})
	}
	s.p.mu.Unlock()
	files := s.files()
	page := []dap.DisassembledInstruction{}
	lastFile, lastLine := "", -1
	for i := from; i < from+count; i++ {
		switch {
		case i < 0:
			page = append(page, dap.DisassembledInstruction{Address: "0x0", Instruction: "invalid instruction"})
			continue
		case i >= len(all):
			page = append(page, dap.DisassembledInstruction{Address: fmt.Sprintf("%#x", uint64(math.MaxUint64)), Instruction: "invalid instruction"})
			continue
		}
		in := &all[i]
		d := dap.DisassembledInstruction{
			Address:          fmt.Sprintf("%#x", in.Loc.PC),
			InstructionBytes: fmt.Sprintf("%x", in.Bytes),
			Instruction:      in.Text(proc.GoFlavour, bi),
		}
		if in.Loc.File != lastFile || in.Loc.Line != lastLine {
			lastFile, lastLine = in.Loc.File, in.Loc.Line
			path, line := locspec.SubstitutePath(in.Loc.File, back), in.Loc.Line
			if file, ok := files.shows(path); ok {
				if there, ok := file.onScreen(files.at(in.Loc.PC), line); ok {
					line = there
				}
			}
			d.Location, d.Line = &dap.Source{Path: path}, line
		}
		page = append(page, d)
	}
	return page
}
