// Package results is what the benchmarks of pauses print.
package results

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Results is what a run of the benchmarks has printed.
type Results struct {
	CPU     string // its name
	Load    string // the load average before, of a minute
	Targets []*Target
	// Toggles and Calls are the metrics of BenchmarkToggles and BenchmarkCall,
	// by their units.
	Toggles, Calls map[string]float64
}

// Target is one program that was measured.
type Target struct {
	Language   string // c or go
	Unit       string // threads or goroutines
	Number     int    // of them
	operations []operation
}

// operation is what was done to the program, and its metrics by their units.
type operation struct {
	name    string
	metrics map[string]float64
}

var (
	pauseName = regexp.MustCompile(`^BenchmarkPause/(c|go)/(threads|goroutines)=(\d+)/op=(.+)$`)
	processes = regexp.MustCompile(`-\d+$`) // which go test appends, if it's not 1
)

// Read reads what go test printed. It fails if a benchmark has failed, or was
// not run.
func Read(r io.Reader) (*Results, error) {
	var res Results
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if cpu, ok := strings.CutPrefix(line, "cpu: "); ok {
			res.CPU = cpu
		}
		if load, ok := strings.CutPrefix(line, "loadavg: "); ok {
			res.Load, _, _ = strings.Cut(load, " ")
		}
		if strings.HasPrefix(line, "FAIL") || strings.HasPrefix(line, "--- FAIL") || strings.HasPrefix(line, "panic: ") {
			return nil, fmt.Errorf("the benchmarks have failed: %s", line)
		}
		name, metrics, err := parse(line)
		if err != nil {
			return nil, err
		}
		switch m := pauseName.FindStringSubmatch(name); {
		case m != nil:
			t := res.target(m[1], m[2], m[3])
			t.operations = append(t.operations, operation{m[4], metrics})
		case name == "BenchmarkToggles":
			res.Toggles = metrics
		case name == "BenchmarkCall":
			res.Calls = metrics
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(res.Targets) == 0 || res.Toggles == nil || res.Calls == nil {
		return nil, errors.New("not all of the benchmarks Pause, Toggles and Call were run")
	}
	return &res, nil
}

// parse takes a benchmark's line apart. Any other has no name.
func parse(line string) (name string, metrics map[string]float64, err error) {
	fields := strings.Fields(line)
	if len(fields) < 4 || !strings.HasPrefix(line, "Benchmark") || len(fields)%2 != 0 {
		return "", nil, nil
	}
	metrics = map[string]float64{}
	for i := 2; i < len(fields); i += 2 {
		if metrics[fields[i+1]], err = strconv.ParseFloat(fields[i], 64); err != nil {
			return "", nil, fmt.Errorf("%s: %w", line, err)
		}
	}
	return processes.ReplaceAllString(fields[0], ""), metrics, nil
}

// target returns the target of a name, which it adds if it's new.
func (r *Results) target(language, unit, number string) *Target {
	n, _ := strconv.Atoi(number) // they are digits
	i := slices.IndexFunc(r.Targets, func(t *Target) bool { return t.Language == language && t.Number == n })
	if i < 0 {
		i = len(r.Targets)
		r.Targets = append(r.Targets, &Target{Language: language, Unit: unit, Number: n})
	}
	return r.Targets[i]
}

// Operation returns the metrics of an operation, nil if it was not measured.
func (t *Target) Operation(name string) map[string]float64 {
	for _, o := range t.operations {
		if o.name == name {
			return o.metrics
		}
	}
	return nil
}

// Kind is a kind of operation.
type Kind struct {
	Name string // in the benchmarks
	Text string // for people
}

// kinds is in the order in which they are shown.
var kinds = []Kind{
	{"nothing", "nothing"},
	{"neighbour", "nothing, while another program computes"},
	{"ptrace", "ptrace alone: all threads stopped and let go"},
	{"delve-halt", "Delve: halt and continue"},
	{"gdb", "gdb: attach, write 8 bytes, detach"},
	{"delve-attach", "Delve: attach"},
	{"darn-attach", "Darn: attach"},
	{"darn-load-first", "Darn: load, the first in the process"},
	{"darn-load", "Darn: load"},
	{"darn-activate", "Darn: activate, for the first time"},
	{"darn-toggle", "Darn: deactivate, activate again"},
	{"darn-unload", "Darn: unload"},
	{"darn-unload-last", "Darn: unload, the last in the process"},
	{"darn-detach", "Darn: detach"},
	{"darn-alone-attach", "Darn without a thread in the program: attach"},
	{"darn-alone-load-first", "the same: load, the first in the process"},
	{"darn-alone-load", "the same: load"},
	{"darn-alone-activate", "the same: activate, for the first time"},
	{"darn-alone-toggle", "the same: deactivate, activate again"},
	{"darn-alone-unload", "the same: unload"},
	{"darn-alone-unload-last", "the same: unload, the last in the process"},
	{"darn-alone-detach", "the same: detach"},
}

// Shown returns the kinds of operations of a target in their order, those that
// have no text of their own at the end.
func (t *Target) Shown() []Kind {
	var shown []Kind
	for _, k := range kinds {
		if t.Operation(k.Name) != nil {
			shown = append(shown, k)
		}
	}
	for _, o := range t.operations {
		if !slices.ContainsFunc(kinds, func(k Kind) bool { return k.Name == o.name }) {
			shown = append(shown, Kind{o.name, o.name})
		}
	}
	return shown
}
