package main

import (
	"strings"
	"testing"

	"github.com/darn-dev/darn/internal/pausedoc/results"
)

// printed is what go test prints, shortened.
const printed = `loadavg: 0.25 0.10 0.05 1/100 4711
goos: linux
cpu: Some CPU
BenchmarkPause/c/threads=16/op=darn-load-2 	 1	 12.0 halts	 1500 busy-p50-µs	 2500 busy-p99-µs	 123456 busy-max-µs	 1400 receipt-p50-µs	 -20.5 beyond-receipt-p50-µs	 99.00 samples
BenchmarkPause/c/threads=16/op=other-2 	 1	 7.0 busy-p50-µs	 8.0 busy-p99-µs	 100.0 samples
BenchmarkPause/c/threads=16/op=nothing-2 	 1	 45.0 busy-p50-µs	 20.00 samples
BenchmarkToggles-2 	 1	 0 failed	 9000 requests	 1.04 p99-ratio	 0.98 p99-ratio-noise	 999.6 toggles/s	 200 none-p99-µs	 208 toggles-p99-µs
PASS
ok  	github.com/darn-dev/darn/patcher	46.323s
BenchmarkCall-2 	 300	 0.541 active-more-ns/call	 0.813 inactive-more-ns/call	 1.354 plain-ns/call
PASS
`

func TestPage(t *testing.T) {
	r, err := results.Read(strings.NewReader(printed))
	if err != nil {
		t.Fatal(err)
	}
	text := page(r, machine{cores: 2, kernel: "6.1", golang: "go1.26", gdb: ""})
	for what, want := range map[string]string{
		"the machine":                      "2 cores (Some CPU), Linux 6.1, go1.26,\nwithout gdb",
		"how quiet it was":                 "The load average was 0.25",
		"the program":                      "## C, 16 threads",
		"few samples, which have no p99":   "| Darn: load | 99 | 1.50 | | 123 | | | | 1.40 | | -0.021 | |\n",
		"the usual order, the new at last": "| nothing | 20 | 0.045 | | | | | | | | | |\n| Darn: load | 99",
		"an operation without a text":      "\n| other | 100 | 0.007 | 0.008 |",
		"that there was no gdb":            "gdb was not installed",
		"toggles":                          "| toggles | 0.000 | 0.208 | 0.000 |",
		"their ratio":                      "is 1.04 times that without",
		"calls":                            "| after a patch was switched off | 0.81 more |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is not there: %q in\n%s", what, want, text)
		}
	}
}

func TestRunsThatAreNotWholeAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"failed":         strings.Replace(printed, "PASS", "--- FAIL: BenchmarkPause", 1),
		"not built":      "FAIL	github.com/darn-dev/darn/patcher [build failed]\n" + printed,
		"without calls":  strings.Replace(printed, "BenchmarkCall-2", "BenchmarkAnalyze-2", 1),
		"without pauses": strings.ReplaceAll(printed, "BenchmarkPause", "BenchmarkHalts"),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := results.Read(strings.NewReader(text)); err == nil {
				t.Error("it is taken for a whole run")
			}
		})
	}
}
