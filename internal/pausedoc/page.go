package main

import (
	"fmt"
	"strings"

	"github.com/darn-dev/darn/internal/pausedoc/results"
)

// machine is where the benchmarks were run.
type machine struct {
	cores               int
	kernel, golang, gdb string // gdb: "" if there is none
}

// page is the text of docs/pauses.md.
func page(r *results.Results, m machine) string {
	var s strings.Builder
	s.WriteString(`# For how long a program is halted

<!-- Written by make pauses. -->

Remade by ` + "`make pauses`" + `, which runs the benchmarks Pause and Toggles of
` + "`patcher`" + ` and Call of ` + "`patcher/redirect`" + `.

`)
	fmt.Fprintf(&s, "Measured on %d cores (%s), Linux %s, %s,\n", m.cores, r.CPU, m.kernel, m.golang)
	if m.gdb != "" {
		s.WriteString(m.gdb)
	} else {
		s.WriteString("without gdb, which was not installed")
	}
	fmt.Fprintf(&s, ".\nThe load average was %s when it began.\n", r.Load)
	s.WriteString(`
![What a program sees of each operation](images/pauses.svg)

The longest gap of any thread: lines through the medians, bars up to the 99th
percentile, or the maximum of fewer than a hundred samples.

## How

The program measures itself, and writes it into memory that it shares with the
benchmark, which stops nobody to read it. Some of its threads are *busy*: they
call a function, which is the one that gets patched, and read the clock, over and
over; a gap is the time between two readings. The others are *waiting*: they wake
up at times that were set, spread evenly; a gap is by how much one was late.
The pause of an operation is the longest gap of any busy, and of any waiting
thread, that lies in the operation or overlaps with it; or, if it is shorter than
20 ms, in these.

In C as many threads are busy as there are cores, half of them at most. In Go
the numbers are goroutines, nearly all of which wait for ever, seven calls deep;
one less than there are cores is busy, and eight wake up, which Go's scheduler
does to the millisecond.

All operations are done in one run, in rounds, a new process each: so what else
the machine does hits all of them. *ptrace alone* is the least that any tool can
do which stops all threads. *Delve* is what a pause and a continue in an editor
do. *gdb* gets it made easy: it reads the program's symbols before it attaches,
and no script or library. Attaching, which Darn does once for a debug session and
for each command on the command line, has a row of its own.

## What to read

The p50 of a row beside the p50 of *nothing*: the difference is the operation's.
A thread that another one keeps from a core has a gap too: *nothing, while
another program computes* shows how long these are where Darn's, Delve's or gdb's
computing takes a core. The p99 and the maximum of *nothing* tell how quiet the
machine was. A p99 is given for a hundred samples or more.

The patch comes and goes again and again, while another one stays: so the memory
for patches and the thread that Darn has in the program are made once, by the first
load, which halts for that. The function that is patched is one whose entry one store
redirects, so that the first activation halts nothing. *Without a thread in the
program*, as with ` + "`--resident=never`" + `, the same is done under halts.

*Receipt* is for how long the threads were halted as Darn's receipt says, which
counts from the request to stop; *seen beyond it* is by how much the longest gap
of any thread was longer. Where there is none the operation had several halts,
which the receipt adds up.
`)
	for _, t := range r.Targets {
		writeTarget(&s, t)
	}
	writeToggles(&s, r.Toggles)
	writeCalls(&s, r.Calls)
	return s.String()
}

// writeTarget writes the table of a target.
func writeTarget(s *strings.Builder, t *results.Target) {
	language := map[string]string{"c": "C", "go": "Go"}[t.Language]
	fmt.Fprintf(s, "\n## %s, %d %s\n\n", language, t.Number, t.Unit)
	s.WriteString(`Milliseconds.

| operation | samples | busy p50 | p99 | max | waiting p50 | p99 | max | receipt p50 | max | seen beyond it, p50 | whole operation p50 |
|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|
`)
	for _, k := range t.Shown() {
		metrics := t.Operation(k.Name)
		fmt.Fprintf(s, "| %s | %.0f ", k.Text, metrics["samples"])
		for _, column := range []string{
			"busy-p50", "busy-p99", "busy-max", "waiting-p50", "waiting-p99", "waiting-max",
			"receipt-p50", "receipt-max", "beyond-receipt-p50", "took-p50",
		} {
			micros, ok := metrics[column+"-µs"]
			if strings.HasSuffix(column, "p99") && metrics["samples"] < 100 {
				ok = false
			}
			if !ok {
				s.WriteString("| ")
				continue
			}
			fmt.Fprintf(s, "| %s ", millis(micros))
		}
		s.WriteString("|\n")
	}
	if t.Operation("gdb") == nil {
		s.WriteString("\ngdb was not installed, and so is not here: `make setup` installs it.\n")
	}
}

func writeToggles(s *strings.Builder, v map[string]float64) {
	fmt.Fprintf(s, `
## A thousand toggles a second

A web server in Go answers requests of four clients. In every second slice of
0.2 s a patch of what it answers is activated or deactivated %.0f times a second;
in the others nothing is done. %.0f requests, of which %.0f had a wrong answer or
none. Latency in milliseconds:

| | p50 | p99 | max |
|---|--:|--:|--:|
`, v["toggles/s"], v["requests"], v["failed"])
	for _, row := range []struct{ text, name string }{{"nothing", "none"}, {"toggles", "toggles"}} {
		fmt.Fprintf(s, "| %s | %s | %s | %s |\n", row.text,
			millis(v[row.name+"-p50-µs"]), millis(v[row.name+"-p99-µs"]), millis(v[row.name+"-max-µs"]))
	}
	fmt.Fprintf(s, "\nThe p99 with toggles is %.2f times that without. Between two halves of the\nslices without, it is %.2f: so much is noise.\n",
		v["p99-ratio"], v["p99-ratio-noise"])
}

func writeCalls(s *strings.Builder, v map[string]float64) {
	fmt.Fprintf(s, `
## A call of a patched function

| a call, with its loop | nanoseconds |
|---|--:|
| of a function as it is | %.2f |
| after a patch was switched off | %.2f more |
| while a patch is active | %.2f more |
| through the stub, switched off | %.2f more |
| through the stub, switched on | %.2f more |
| through the stub and a pad, switched off | %.2f more |
| through the stub and a pad, switched on | %.2f more |

A jump to another page takes a cycle. When nothing was switched for a tenth of a
second the entry of a function is straight: it has its original bytes again if no
patch of it is active, and else is one jump to the new code. Otherwise it is two
jumps by the stub, or three with a pad, which the entry needs of a function whose
first instruction has one or two bytes. Straight are functions of Go programs whose
entry one store writes, while their patch is active those whose new code such a jump
reaches: see the README. BenchmarkCall of `+"`patcher`"+` measures the same in a
program that runs.
`, v["plain-ns/call"], v["inactive-more-ns/call"], v["active-more-ns/call"],
		v["stub-inactive-more-ns/call"], v["stub-active-more-ns/call"],
		v["padded-inactive-more-ns/call"], v["padded-active-more-ns/call"])
}

// millis prints microseconds as milliseconds, with as many digits as tell something.
func millis(micros float64) string {
	ms := micros / 1000
	switch {
	case ms >= 100 || ms <= -100:
		return fmt.Sprintf("%.0f", ms)
	case ms >= 10 || ms <= -10:
		return fmt.Sprintf("%.1f", ms)
	case ms >= 1 || ms <= -1:
		return fmt.Sprintf("%.2f", ms)
	}
	return fmt.Sprintf("%.3f", ms)
}
