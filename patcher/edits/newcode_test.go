package edits_test

// newCode has each file of testdata do what no code of the program did before.
// They check themselves, and are asked by many goroutines at once.
var newCode = []edit{
	fresh("maps of new keys", "maps.go", "maps", comesAndGoes),
	fresh("reflection on new types", "reflection.go", "reflection", stays),
	fresh("finalizers, cleanups, weak pointers, pools, atomics, garbage", "memory.go", "memory", stays),
	fresh("iterators, panics, contexts, interfaces, errors", "control.go", "control", stays),
	fresh("new import encoding/json", "json.go", `json {"point":{},"square":{}}`, stays),
	fresh("new imports regexp and text/template", "regexp.go", `1,2 48, 3,4 48 of "Hello Big World"`, stays),
	fresh("new imports net/http and net/http/pprof", "pprof.go", "200 true", stays),
	fresh("functions in assembly", "assembly.go", "3cc48a21 4a3dbfa5 PMSK", stays),
}

// A module stays if the program keeps what leads to it: package reflect its
// types, package unique their maps, and a package that the module brings what
// its initialisation put on the heap.
const (
	comesAndGoes = false
	stays        = true
)

func fresh(name, file, after string, stays bool) edit {
	return edit{name: name, file: file, changes: map[string][]string{"functions.go": {`return "old"`, "return freshCode()"}},
		answers: []answer{{"fresh", "old", after}}, stays: stays}
}
