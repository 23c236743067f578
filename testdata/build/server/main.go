// Command server answers with a greeting.
package main

import (
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"

	"example.com/server/greet"
)

// version is set by the linker.
var version = "dev"

func main() {
	addr := flag.String("addr", "127.0.0.1:0", "`address` to listen at")
	flag.Parse()
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("addr %s\n", listener.Addr())
	http.HandleFunc("GET /hello", hello)
	http.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, version) })
	log.Fatal(http.Serve(listener, nil))
}

//go:noinline
func hello(w http.ResponseWriter, r *http.Request) {
	fmt.Fprint(w, greet.Greeting(r.FormValue("name")))
}
