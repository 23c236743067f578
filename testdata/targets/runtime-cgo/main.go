// Command runtime-cgo keeps an address in C's memory, on the stack of a C
// thread, and on that of a goroutine that C called back.
package main

/*
#cgo LDFLAGS: -lpthread
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

static volatile uintptr_t *kept;

static void keep(uintptr_t p) {
	kept = malloc(64);
	kept[3] = p;
}

static void forget(void) {
	kept[3] = 0;
}

static void *sleeper(void *arg) {
	volatile uintptr_t local = (uintptr_t)arg;
	while (local) {
		pause();
	}
	return NULL;
}

static void start(uintptr_t p) {
	pthread_t t;
	pthread_create(&t, NULL, sleeper, (void *)p);
}

extern void goCalled(uintptr_t p);

static void call(uintptr_t p) {
	volatile uintptr_t local = p;
	goCalled(local);
	local = 0;
}
*/
import "C"

import (
	"fmt"
	"net"
	"net/http"
	"unsafe"
)

var thing [4096]byte

var (
	free  = make(chan bool)
	ready = make(chan bool)
)

//export goCalled
func goCalled(p C.uintptr_t) {
	ready <- true
	<-free
	if p == 0 {
		panic("no address")
	}
}

func main() {
	at := func(i int) C.uintptr_t { return C.uintptr_t(uintptr(unsafe.Pointer(&thing[i]))) }
	http.HandleFunc("/heap", func(w http.ResponseWriter, r *http.Request) { C.keep(at(8)) })
	http.HandleFunc("/forget", func(w http.ResponseWriter, r *http.Request) { C.forget() })
	http.HandleFunc("/thread", func(w http.ResponseWriter, r *http.Request) { C.start(at(16)) })
	http.HandleFunc("/call", func(w http.ResponseWriter, r *http.Request) {
		go C.call(at(24))
		<-ready
	})
	http.HandleFunc("/free", func(w http.ResponseWriter, r *http.Request) { free <- true })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Printf("thing %x\n", uintptr(unsafe.Pointer(&thing)))
	fmt.Println("addr", l.Addr())
	panic(http.Serve(l, nil))
}
