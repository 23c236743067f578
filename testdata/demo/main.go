// Command teahouse is a small web server. It knows nothing of Darn.
//
//	GET /bill?cups=3   what three cups cost
//	GET /served        how many bills were written since the start
package main

import (
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
)

// served counts the bills. It lives in memory only: a restart would lose it.
var served atomic.Int64

func main() {
	addr := flag.String("addr", "127.0.0.1:0", "`address` to listen at")
	flag.Parse()

	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("teahouse: http://%s\n", listener.Addr())

	http.HandleFunc("GET /bill", handleBill)
	http.HandleFunc("GET /served", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, served.Load())
	})
	log.Fatal(http.Serve(listener, nil))
}

func handleBill(w http.ResponseWriter, r *http.Request) {
	cups, err := strconv.Atoi(r.FormValue("cups"))
	if err != nil || cups < 1 {
		http.Error(w, "how many cups?", http.StatusBadRequest)
		return
	}
	served.Add(1)
	fmt.Fprintln(w, bill(cups))
}
