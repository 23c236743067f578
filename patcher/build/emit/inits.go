package emit

import (
	"encoding/binary"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/darn-dev/darn/patcher/build/object"
	"github.com/darn-dev/darn/patcher/finding"
)

// Variables that the source of a package declares whose functions are to
// initialise what the patch brings. Emit makes one of those of all packages, and
// gives them their values: the source can name neither the tasks, which are
// cmd/link's, nor the runtime's function that runs one.
const (
	// InitTasks is a []unsafe.Pointer, of the runtime's initTask, in order.
	InitTasks = "darnInitTasks"
	// InitRun is the func(unsafe.Pointer) that runs one, runtime.doInit1.
	InitRun = "darnInitRun"
	// InitOnce is the sync.Once for running all.
	InitOnce = "darnInitOnce"
)

// initFunction matches functions that initialise a package: its variables, its
// func init()s, and its maps, whose initialisation the linker drops if the map
// is not used.
var initFunction = regexp.MustCompile(`\.(init|init\.[0-9]+|map\.init\.[0-9]+)$`)

// initialise sees to the initialisation of what is new: packages, and maps of
// packages that the target has but without the map. Nothing else can be
// initialised: a package's init has run.
func (b *builder) initialise() error {
	packages, tasks := b.newPackages()
	maps, err := b.newMaps(packages)
	if err != nil {
		return err
	}
	if len(tasks)+len(maps) == 0 {
		return nil
	}
	if b.shared[InitOnce] == nil {
		need := &InitNeeded{Names: packages}
		for _, fn := range maps {
			need.Names = append(need.Names, b.New.Symbols[fn].Name)
		}
		for _, c := range b.Diff.Changed {
			file, _, err := b.New.Source(c.New)
			if err != nil {
				return err
			}
			r, err := b.lines.find(b.new.symbol(c.New) - b.new.text)
			if err != nil {
				return err
			}
			need.Functions = append(need.Functions, Function{b.New.Symbols[c.New].Name, file, int(r.startLine)})
		}
		return need
	}
	return b.runTasks(packages, tasks, maps)
}

// newPackages lists the packages that only New initialises, in order, with
// their tasks.
func (b *builder) newPackages() (packages []string, tasks []int) {
	old := map[string]bool{}
	for _, sym := range initTasks(b.base) {
		old[b.Base.Symbols[sym].Name] = true
	}
	for _, sym := range initTasks(b.new) {
		if name := b.New.Symbols[sym].Name; !old[name] {
			packages = append(packages, object.PackageOf(strings.TrimSuffix(name, "inittask")))
			tasks = append(tasks, sym)
		}
	}
	return packages, tasks
}

// initTasks lists the tasks by which a program initialises its packages.
func initTasks(s *space) (tasks []int) {
	list, ok := s.obj.Lookup("go:main.inittasks")
	if !ok {
		return nil
	}
	for _, r := range s.obj.Relocs(list) {
		sym := r.Symbol
		if i, ok := s.obj.SymbolAt(r.Target); ok {
			sym = i
		}
		tasks = append(tasks, sym)
	}
	return tasks
}

// newMaps lists the functions that fill maps the module owns, of packages that
// the target has initialised. That another init function of such a package
// writes a variable of the module's own is refused.
func (b *builder) newMaps(newPackages []string) (maps []int, err error) {
	var refused []finding.Finding
	for _, fn := range b.New.Functions {
		name := b.New.Symbols[fn].Name
		if !initFunction.MatchString(name) || slices.Contains(newPackages, object.PackageOf(name)) {
			continue
		}
		variable := b.ownVariable(fn)
		if variable == "" {
			continue
		}
		_, known := b.Diff.Old(fn)
		if strings.Contains(name, ".map.init.") && !known {
			maps = append(maps, fn)
			continue
		}
		refused = append(refused, finding.Finding{Code: finding.InitChanged, Severity: finding.Error, Function: name, Source: b.source(fn),
			Message: fmt.Sprintf("the new variable %s gets its value when package %s is initialised, which has happened already", variable, object.PackageOf(name)),
			Advice:  "give it a value known at compile time, or set it at its first use, with a sync.Once"})
	}
	if len(refused) > 0 {
		return nil, &finding.Refusal{Findings: refused}
	}
	return maps, nil
}

// ownVariable returns a named variable of the module's own that a function
// refers to, "" if there is none.
func (b *builder) ownVariable(fn int) string {
	refs, _ := b.New.Refs(fn)
	for _, r := range refs {
		s := &b.New.Symbols[r.Symbol]
		if s.Section == 0 || s.Size == 0 || unstable(s.Name) || !b.New.Writable(r.Symbol) {
			continue
		}
		if lo := b.new.symbol(r.Symbol); b.have[span{lo, lo + s.Size}] {
			return s.Name
		}
	}
	return ""
}

// shareVariables makes one variable of those that the source declares in each
// package, so that initialisation is run once whichever package is entered
// first.
func (b *builder) shareVariables() {
	b.shared, b.standIn = map[string]*piece{}, map[int]uint64{}
	for sym := range b.New.Symbols {
		s := &b.New.Symbols[sym]
		name := s.Name[strings.LastIndexByte(s.Name, '.')+1:]
		if name != InitOnce && name != InitRun && name != InitTasks || s.Section == 0 || !b.New.Writable(sym) {
			continue
		}
		if b.shared[name] == nil {
			b.shared[name] = b.freshPiece(segData, make([]byte, s.Size))
		}
		b.standIn[sym] = b.shared[name].lo
	}
}

// runTasks makes the patch run the tasks, and those functions in one task
// more, at the first entry of any of its functions.
func (b *builder) runTasks(packages []string, tasks, maps []int) error {
	var addrs []uint64
	if len(maps) > 0 {
		// runtime.initTask: state, number of functions, the functions.
		data := make([]byte, 8+8*len(maps))
		binary.LittleEndian.PutUint32(data[4:], uint32(len(maps)))
		p := b.freshPiece(segData, data)
		for i, fn := range maps {
			d, err := b.function(fn)
			if err != nil {
				return err
			}
			b.fixups[p.lo+8+8*uint64(i)] = fixup{kind: fixAbs, to: d}
			packages = append(packages, b.New.Symbols[fn].Name)
		}
		addrs = append(addrs, p.lo)
	}
	for _, sym := range tasks {
		lo := b.new.symbol(sym)
		if err := b.ownData(segData, lo, lo+b.New.Symbols[sym].Size); err != nil {
			return err
		}
		addrs = append(addrs, lo)
	}
	list := b.freshPiece(segRodata, make([]byte, 8*len(addrs)))
	for i, addr := range addrs {
		b.fixups[list.lo+8*uint64(i)] = fixup{kind: fixAbs, to: own(addr)}
	}
	run, err := b.targetSymbol("runtime.doInit1", 0)
	if err != nil {
		return err
	}
	value := b.freshPiece(segRodata, make([]byte, 8))
	b.fixups[value.lo] = fixup{kind: fixAbs, to: run}
	b.fixups[b.shared[InitRun].lo] = fixup{kind: fixAbs, to: own(value.lo)}
	header := b.shared[InitTasks]
	b.fixups[header.lo] = fixup{kind: fixAbs, to: own(list.lo)}
	binary.LittleEndian.PutUint64(header.data[8:], uint64(len(addrs)))
	binary.LittleEndian.PutUint64(header.data[16:], uint64(len(addrs)))
	b.goPart().InitPackages = packages
	if err := b.drain(); err != nil {
		return err
	}
	return b.fillMethods()
}
