// Command link-types is a program whose types, itabs and functions modules are
// bound to. It says where they are.
package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"reflect"
	"strings"
	"time"
	"unsafe"
)

type pair struct{ A, B int }

// address returns the first word of an interface value: its type or its itab.
func address(i unsafe.Pointer) uintptr { return *(*uintptr)(i) }

//go:noinline
func replaced(x int) int { return x + 1 }

func main() {
	for _, v := range []any{
		http.Header{}, &http.Request{}, http.Request{}, &http.Client{}, errors.New("x"), os.File{}, &os.File{},
		[]byte{}, map[string]int{}, "", 0, func(int) string { return "" }, struct{ A, B int }{}, [4]uint32{},
		make(chan bool), reflect.Value{}, pair{}, &pair{}, io.Writer.Write, new(io.Writer),
	} {
		t := reflect.TypeOf(v)
		fmt.Printf("type %x %d %d %q %q\n", address(unsafe.Pointer(&v)), t.Kind(), t.Size(), t.String(), t.PkgPath())
	}
	var w io.Writer = os.Stdout
	fmt.Printf("itab %x\n", address(unsafe.Pointer(&w)))
	// One that only the runtime can make: no code converts a reader so.
	var r any = strings.NewReader("")
	s := r.(io.ByteScanner)
	fmt.Printf("dynamic %x\n", address(unsafe.Pointer(&s)))
	fmt.Printf("replaced %x\n", reflect.ValueOf(replaced).Pointer())
	fmt.Println("ready", replaced(len(os.Args)))
	for {
		time.Sleep(time.Hour)
	}
}
