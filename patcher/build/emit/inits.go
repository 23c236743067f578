package emit

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/darn-dev/darn/patcher/build/object"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/module"
)

// What is declared in the source that is added to the program's own package to
// initialise what the patch brings. Emit gives the variables their values: the
// source can name neither the tasks, which are cmd/link's, nor the runtime's
// function that runs one.
const (
	// InitRequired is a []func() string, the InitAlls of the modules that are
	// required.
	InitRequired = "darnInitRequired"
	// InitTasks is a []unsafe.Pointer, of the runtime's initTask, in order.
	InitTasks = "darnInitTasks"
	// InitRun is the func(unsafe.Pointer) that runs one, runtime.doInit1.
	InitRun = "darnInitRun"
	// InitStart is the func() bool that starts a goroutine which calls InitAll.
	InitStart = "darnInitStart"
	// InitAll is the func() string that runs the tasks once, and says why it
	// failed if it did.
	InitAll = "darnInitAll"
	// InitState is what Darn shares with them: see module.Initialisation.
	InitState = "darnInitState"
	// InitKept is a pointer that the module holds.
	InitKept = "darnInitKept"
	// InitVariable, with a number, is a func() that initialises new variables of
	// a package, in the order of the numbers.
	InitVariable = "darnInitVar"
)

// initFunction matches functions that initialise a package: its variables, its
// func init()s, and its maps, whose initialisation the linker drops if the map
// is not used. initDeclared matches the func init()s, initVariable what
// InitVariable says.
var (
	initFunction = regexp.MustCompile(`\.(init|init\.[0-9]+|map\.init\.[0-9]+)$`)
	initDeclared = regexp.MustCompile(`\.init\.[0-9]+$`)
	initVariable = regexp.MustCompile(`\.` + InitVariable + `([0-9]+)$`)
)

// initialise sees to the initialisation of what is new: packages, and variables
// of packages that the target has. What initialises these packages has run, and
// is not run again: New is built to initialise the variables by themselves.
func (b *builder) initialise() error {
	packages := b.newPackages()
	variables, err := b.newVariables(packages)
	if err != nil || len(packages)+len(variables) == 0 && len(b.initialisers()) == 0 {
		return err
	}
	if b.shared[InitTasks] != nil {
		if err := b.runTasks(packages); err != nil {
			return err
		}
		// Initialising them may need others.
		if variables, err = b.newVariables(packages); err != nil {
			return err
		}
		b.goPart().InitVariables = variables
		missing := slices.ContainsFunc(variables, func(name string) bool { return !slices.Contains(b.Initialised, name) })
		if !missing {
			return nil
		}
	}
	return &InitNeeded{Packages: packages, Variables: variables}
}

// newPackages lists the packages to initialise that Base has nothing of and that
// no earlier module initialises, in order. Others may have variables that live,
// even if nothing initialised them.
func (b *builder) newPackages() (packages []string) {
	old := b.basePackages()
	for _, e := range b.earlier {
		for _, pkg := range e.m.Manifest.Go.InitPackages {
			old[pkg] = true
		}
	}
	for _, sym := range initTasks(b.new) {
		if pkg := b.taskPackage(sym); !old[pkg] {
			packages = append(packages, pkg)
		}
	}
	return packages
}

// basePackages returns the packages that Base has something of.
func (b *builder) basePackages() map[string]bool {
	packages := map[string]bool{}
	for i := range b.Base.Symbols {
		if s := &b.Base.Symbols[i]; s.Section != 0 {
			packages[object.PackageOf(s.Name)] = true
		}
	}
	return packages
}

// taskPackage returns the import path of the package that a task initialises.
func (b *builder) taskPackage(sym int) string {
	return object.PackageOf(strings.TrimSuffix(b.New.Symbols[sym].Name, "inittask"))
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

// newVariables lists the variables that the module owns of packages that the
// target has initialised, if anything initialises one of them: then one takes
// its value from another, perhaps, and none may keep what the compiler laid out.
// That a func init() of such a package writes one is refused.
func (b *builder) newVariables(newPackages []string) (names []string, err error) {
	var refused []finding.Finding
	affected := map[string]bool{}
	for _, fn := range b.New.Functions {
		name := b.New.Symbols[fn].Name
		pkg := object.PackageOf(name)
		if !initFunction.MatchString(name) || slices.Contains(newPackages, pkg) {
			continue
		}
		variable := b.ownVariable(fn)
		switch {
		case variable == "":
		case initDeclared.MatchString(name) && !strings.Contains(name, ".map."):
			refused = append(refused, finding.Finding{Code: finding.InitChanged, Severity: finding.Error, Function: name, Source: b.source(fn),
				Message: fmt.Sprintf("the new variable %s is set by a func init of package %s, which has run already", variable, pkg),
				Advice:  "give the variable its value where it is declared, or set it at its first use, with a sync.Once"})
		default:
			affected[pkg] = true
		}
	}
	if len(refused) > 0 {
		return nil, &finding.Refusal{Findings: refused}
	}
	if len(affected) == 0 {
		return nil, nil
	}
	for sym := range b.New.Symbols {
		s := &b.New.Symbols[sym]
		if b.ownsVariable(sym) && !unstable(s.Name) && affected[object.PackageOf(s.Name)] {
			names = append(names, s.Name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// ownVariable returns a variable of the module's own that a function refers to,
// or the array behind one, "" if there is none.
func (b *builder) ownVariable(fn int) string {
	refs, _ := b.New.Refs(fn)
	for _, r := range refs {
		sym := r.Symbol
		if i, ok := b.New.SymbolAt(r.Target); ok {
			sym = i
		}
		if name := b.New.Symbols[sym].Name; b.ownsVariable(sym) && (!unstable(name) || strings.Contains(name, "..stmp_")) {
			return name
		}
	}
	return ""
}

// ownsVariable tells whether a symbol is a variable of the module's own.
func (b *builder) ownsVariable(sym int) bool {
	s := &b.New.Symbols[sym]
	if s.Section == 0 || s.Size == 0 || s.Container || s.Type != elf.STT_OBJECT || !b.New.Writable(sym) {
		return false
	}
	lo := b.new.symbol(sym)
	return b.have[span{lo, lo + s.Size}]
}

// shareVariables makes pieces of the variables that the added source declares:
// they are none of the program's.
func (b *builder) shareVariables() {
	b.shared, b.standIn = map[string]*piece{}, map[int]uint64{}
	for sym := range b.New.Symbols {
		s := &b.New.Symbols[sym]
		name := s.Name[strings.LastIndexByte(s.Name, '.')+1:]
		if !slices.Contains([]string{InitRequired, InitTasks, InitRun, InitState, InitKept}, name) || s.Section == 0 || !b.New.Writable(sym) {
			continue
		}
		b.shared[name] = b.freshPiece(segData, make([]byte, s.Size))
		b.shared[name].pointers = name == InitKept
		b.standIn[sym] = b.shared[name].lo
	}
}

// runTasks makes the patch run, before it is first activated, what initialises
// new packages and new variables, in the order of the packages.
func (b *builder) runTasks(packages []string) error {
	variables, err := b.variableFunctions()
	if err != nil {
		return err
	}
	var addrs []uint64
	for _, sym := range initTasks(b.new) {
		s := &b.New.Symbols[sym]
		pkg := b.taskPackage(sym)
		if slices.Contains(packages, pkg) {
			lo := b.new.symbol(sym)
			if err := b.ownData(segData, lo, lo+s.Size); err != nil {
				return err
			}
			addrs = append(addrs, lo)
		} else if fns := variables[pkg]; len(fns) > 0 {
			dests := make([]dest, len(fns))
			for i, fn := range fns {
				if dests[i], err = b.function(fn); err != nil {
					return err
				}
			}
			addrs = append(addrs, b.initTask(dests))
		}
	}
	start, err := b.startFunction()
	if err != nil {
		return err
	}
	b.goPart().InitPackages = packages
	if err := b.drain(); err != nil {
		return err
	}
	if err := b.fillMethods(); err != nil {
		return err
	}
	var required []uint64
	for _, fn := range b.initialisers() {
		required = append(required, b.funcValue(fn))
	}
	b.setSlice(b.shared[InitRequired], required)
	b.setSlice(b.shared[InitTasks], addrs)
	run, err := b.targetSymbol("runtime.doInit1", 0)
	if err != nil {
		return err
	}
	b.fixups[b.shared[InitRun].lo] = fixup{kind: fixAbs, to: own(b.funcValue(run))}
	state := b.shared[InitState]
	if state == nil || state.size < module.InitStateSize {
		return fmt.Errorf("the source that initialises the patch has no %s", InitState)
	}
	binary.LittleEndian.PutUint64(state.data[module.InitMark:], module.InitNobody)
	b.initStart, b.initState = b.funcValue(start), state.lo
	return nil
}

// startFunction returns the function that InitStart is, as one of the module.
func (b *builder) startFunction() (dest, error) {
	for _, fn := range b.New.Functions {
		if strings.HasSuffix(b.New.Symbols[fn].Name, "."+InitStart) {
			return b.function(fn)
		}
	}
	return dest{}, fmt.Errorf("the source that initialises the patch has no %s", InitStart)
}

// setSlice makes a variable the slice of pointers to addrs.
func (b *builder) setSlice(variable *piece, addrs []uint64) {
	list := b.freshPiece(segRodata, make([]byte, 8*len(addrs)))
	for i, addr := range addrs {
		b.fixups[list.lo+8*uint64(i)] = fixup{kind: fixAbs, to: own(addr)}
	}
	b.fixups[variable.lo] = fixup{kind: fixAbs, to: own(list.lo)}
	binary.LittleEndian.PutUint64(variable.data[8:], uint64(len(addrs)))
	binary.LittleEndian.PutUint64(variable.data[16:], uint64(len(addrs)))
}

// funcValue makes a value of function type, which is a pointer to this.
func (b *builder) funcValue(fn dest) (addr uint64) {
	p := b.freshPiece(segRodata, make([]byte, 8))
	b.fixups[p.lo] = fixup{kind: fixAbs, to: fn}
	return p.lo
}

// initTask makes a runtime.initTask that runs functions: its state, their
// number, and they.
func (b *builder) initTask(fns []dest) (addr uint64) {
	data := make([]byte, 8+8*len(fns))
	binary.LittleEndian.PutUint32(data[4:], uint32(len(fns)))
	p := b.freshPiece(segData, data)
	for i, fn := range fns {
		b.fixups[p.lo+8+8*uint64(i)] = fixup{kind: fixAbs, to: fn}
	}
	return p.lo
}

// initialisers returns the functions by which the earlier modules that are
// required initialise what they brought: what is shared with them has no value
// before, and it may be this module's functions that are entered first.
func (b *builder) initialisers() (fns []dest) {
	for _, e := range b.earlier {
		g := e.m.Manifest.Go
		if !e.required || len(g.InitPackages)+len(g.InitVariables) == 0 {
			continue
		}
		i := slices.IndexFunc(e.m.Symbols, func(s module.Symbol) bool {
			return !s.Undefined && s.Type == elf.STT_FUNC && strings.HasSuffix(s.Name, "."+InitAll)
		})
		if i < 0 {
			continue
		}
		s := &e.m.Symbols[i]
		name := s.Name + "@" + e.m.ID()
		if _, known := b.symbols[name]; !known {
			b.goPart().Imports = append(b.goPart().Imports, module.Import{Symbol: name, Module: e.m.ID(), Offset: s.Addr, Size: s.Size})
		}
		fns = append(fns, dest{symbol: b.undefined(name, elf.STT_FUNC)})
	}
	return fns
}

// variableFunctions returns the functions that initialise new variables, by
// package, in order.
func (b *builder) variableFunctions() (map[string][]int, error) {
	functions := map[string]map[int]int{}
	for _, fn := range b.New.Functions {
		name := b.New.Symbols[fn].Name
		m := initVariable.FindStringSubmatch(name)
		if m == nil {
			continue
		}
		n, err := strconv.Atoi(m[1])
		if err != nil {
			return nil, err
		}
		pkg := object.PackageOf(name)
		if functions[pkg] == nil {
			functions[pkg] = map[int]int{}
		}
		functions[pkg][n] = fn
	}
	ordered := map[string][]int{}
	for pkg, fns := range functions {
		for _, n := range slices.Sorted(maps.Keys(fns)) {
			ordered[pkg] = append(ordered[pkg], fns[n])
		}
	}
	return ordered, nil
}
