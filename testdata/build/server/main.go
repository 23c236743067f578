// Command server answers each line, as "name=you", with a greeting.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/url"

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
	fmt.Printf("addr %s, version %s\n", listener.Addr(), version)
	for {
		c, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go func() {
			defer c.Close()
			for lines := bufio.NewScanner(c); lines.Scan(); {
				r, err := url.ParseQuery(lines.Text())
				if err == nil {
					hello(c, r)
				}
			}
		}()
	}
}

//go:noinline
func hello(w io.Writer, r url.Values) {
	fmt.Fprint(w, greet.Greeting(r.Get("name")))
}
