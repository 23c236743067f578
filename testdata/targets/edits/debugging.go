package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"runtime/trace"
	"time"
)

func debugging() {
	steady("where", where)
	steady("callers", names)
	others("traceback", stackOf)
	others("burn", func() string { return fmt.Sprint(burn(200) > 0) })
	others("cpu", func() string { return record("cpu", cpu) })
	others("heap", func() string {
		keepBytes()
		return record("heap", func(f *os.File) error { runtime.GC(); return pprof.Lookup("allocs").WriteTo(f, 1) })
	})
	others("goroutine", func() string {
		return record("goroutine", func(f *os.File) error { return pprof.Lookup("goroutine").WriteTo(f, 1) })
	})
	others("trace", func() string {
		return record("trace", func(f *os.File) error {
			if err := trace.Start(f); err != nil {
				return err
			}
			defer trace.Stop()
			nap()
			return nil
		})
	})
	others("crash", func() string { go crash(nil); select {} })
}

//go:noinline
func where() string {
	_, file, line, _ := runtime.Caller(0)
	return fmt.Sprintf("%s:%d", filepath.Base(file), line)
}

//go:noinline
func names() string {
	pc := make([]uintptr, 3)
	frames := runtime.CallersFrames(pc[:runtime.Callers(1, pc)])
	f, _ := frames.Next()
	return f.Function + " " + runtime.FuncForPC(f.PC).Name()
}

//go:noinline
func stackOf() string {
	buf := make([]byte, 1<<16)
	return string(buf[:runtime.Stack(buf, false)])
}

var sink int

//go:noinline
func burn(ms int) int {
	for end := time.Now().Add(time.Duration(ms) * time.Millisecond); time.Now().Before(end); {
		for i := range 10000 {
			sink += i % 7
		}
	}
	return sink
}

func cpu(f *os.File) error {
	if err := pprof.StartCPUProfile(f); err != nil {
		return err
	}
	defer pprof.StopCPUProfile()
	burn(300)
	return nil
}

var bytesKept [][]byte

//go:noinline
func keepBytes() {
	for range 64 {
		bytesKept = append(bytesKept, make([]byte, 1<<20))
	}
	bytesKept = nil
}

//go:noinline
func nap() { time.Sleep(20 * time.Millisecond) }

// record has a profile written to a file, and returns its path.
func record(name string, write func(*os.File) error) string {
	f, err := os.CreateTemp(os.Getenv("PROFILES"), name+"-")
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if err := write(f); err != nil {
		return err.Error()
	}
	return f.Name()
}

//go:noinline
func crash(b *bytes.Buffer) {
	b.WriteString("nobody is there")
}
