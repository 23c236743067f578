# Run 'make' or 'make help' for the list of targets.

GO          ?= go
STATICCHECK  = honnef.co/go/tools/cmd/staticcheck@v0.8.0
FUZZTIME    ?= 20s
SOAKTIME    ?= 4h
PAUSES      ?= 10
# These only compute, on one goroutine, and take most of the time if the race
# detector watches them (bufio because flate reads byte by byte through it). No
# package may be here that uses sync.Map, as encoding/binary does: its copy of the
# map's code, which nobody watches then, may become that of the whole program.
DWARF        = github.com/go-delve/delve/pkg/dwarf
UNWATCHED    = bufio compress/flate debug/dwarf debug/elf debug/gosym go/ast go/scanner go/token go/types \
	hash/adler32 internal/saferio internal/zstd sort strconv unicode/utf8 golang.org/x/arch/x86/x86asm \
	github.com/go-delve/delve/pkg/internal/gosym $(DWARF)/frame $(DWARF)/godwarf $(DWARF)/leb128 \
	$(DWARF)/line $(DWARF)/loclist $(DWARF)/op $(DWARF)/reader

.DEFAULT_GOAL := help
.PHONY: help build demo test test-go test-extension fuzz-short vsix images setup lint fixes bench pauses fuzz soak clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build bin/darn
	$(GO) build -o bin/darn .

demo: build ## Patch a running web server and see it happen
	bin/darn demo

test: setup lint ## Run the linters and every test with the race detector
	@$(MAKE) --no-print-directory -j3 test-go test-extension fuzz-short

test-go:
	# The race detector would hold every process that ends for a second: those of
	# the tests too that run in place of the compiler. "lint" has run go vet.
	GORACE=atexit_sleep_ms=10 $(GO) test -vet=off -race $(UNWATCHED:%=-gcflags=%=-race=false) -timeout 40m ./...

# Mostly waits, and so runs beside the tests in Go; it speaks when it has ended.
test-extension:
	@mkdir -p bin; vscode-extension/scripts/test >bin/test-extension.log 2>&1; status=$$?; \
	cat bin/test-extension.log; exit $$status

# What reads the bytes of others, a minute each, on what the tests leave idle. It
# says how it was when it has ended, and everything if one has failed: that the
# minute was over in the middle of an input, which go test calls a failure where
# the machine is busy, is none.
FUZZ_SHORT   = ./patcher/module:FuzzRead ./patcher/link:FuzzBind ./patcher:FuzzParseRegistry ./adapter:FuzzFront
SHORT       ?= 1m
fuzz-short:
	@mkdir -p bin; : >bin/fuzz-short.log; for target in $(FUZZ_SHORT); do \
		nice -n 19 $(GO) test -run '^$$' -fuzz "^$${target#*:}\$$" -fuzztime $(SHORT) -fuzzminimizetime 1x -parallel 1 $${target%:*} \
			>bin/fuzz-one.log 2>&1 || \
			{ grep -q 'context deadline exceeded' bin/fuzz-one.log && ! grep -qE 'Failing input|panic:' bin/fuzz-one.log; } || \
			{ cat bin/fuzz-one.log; exit 1; }; \
		echo "$${target#*:}: $$(grep '^fuzz: elapsed' bin/fuzz-one.log | tail -n 1)" >>bin/fuzz-short.log; \
	done; cat bin/fuzz-short.log

vsix: ## Build bin/darn-linux-x64.vsix, the extension for VS Code with darn inside
	@vscode-extension/scripts/package

setup: ## Install what the tests need and the machine lacks
	.ci/setup

images: vsix ## Take the pictures in docs/images anew
	DARN_IMAGES=1 vscode-extension/scripts/test ui:current

lint: ## Check formatting, go vet, staticcheck, and the extension's types and style
	@unformatted=$$(gofmt -l $$(find . -name node_modules -prune -o -name '*.go' -print)); if [ -n "$$unformatted" ]; then \
		echo "not formatted as gofmt does:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	npm run --silent --prefix vscode-extension lint

fixes: ## Patch real bug fixes into real programs, and write docs/real-fixes.md
	DARN_FIXES=all $(GO) test -count 1 -run 'TestFixes$$' -timeout 3h -v ./internal/realworld

bench: ## Run the benchmarks
	$(GO) test -run '^$$' -bench . -benchmem ./...

pauses: ## Measure for how long programs are halted, and write docs/pauses.md and its chart
	@mkdir -p bin; echo "loadavg: $$(cat /proc/loadavg)" >bin/pauses.txt
	@command -v gdb >/dev/null || echo "gdb is not installed and will be missing in the table; make setup installs it"
	$(GO) test -run '^$$' -bench '^Benchmark(Pause|Toggles)$$' -benchtime 1x -timeout 30m ./patcher -pauses $(PAUSES) -pauses.time 45s >>bin/pauses.txt || { cat bin/pauses.txt; exit 1; }
	$(GO) test -run '^$$' -bench '^BenchmarkCall$$' ./patcher/redirect >>bin/pauses.txt || { cat bin/pauses.txt; exit 1; }
	$(GO) run ./internal/pausedoc docs/pauses.md <bin/pauses.txt
	$(GO) run -C internal/pausedoc/chart . $(CURDIR)/docs/images/pauses.svg <bin/pauses.txt

fuzz: ## Fuzz everything that parses, FUZZTIME (20s, or hours) each
	@set -e; for package in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
			echo "== $$package $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1x $$package; \
		done; \
	done

soak: ## Torture a program with patches for SOAKTIME (4h), a session with races, and kill Darn often
	$(GO) test -v -count=1 -timeout 0 -run '^TestC?Torture$$' ./patcher -torture $(SOAKTIME)
	$(GO) test -v -count=1 -timeout 0 -run '^TestNothingLeaks$$' ./patcher -operations 10000
	$(GO) test -v -count=1 -timeout 0 -run '^TestDarnIsKilled|^TestASessionIsKilled' ./internal/cli -kills 1000 -stride 1
	$(GO) test -v -count=1 -timeout 0 -run '^TestTheTargetSurvivesA' ./adapter -races 1000
	$(GO) test -v -count=1 -timeout 0 -run '^TestRaces$$|^TestRestarts|^TestBreakpointsAtEntries' ./adapter -races 1000

clean: ## Remove what was built
	rm -rf bin vscode-extension/bin vscode-extension/dist vscode-extension/test-results
