// Package serve is what the servers under test have in common: how they speak with the harness.
package serve

import (
	"bufio"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"runtime"
	"time"
)

var work = flag.Duration("work", 0, "processor time that a message takes, beside its echo")

// Work is called for each message.
func Work() {
	if *work > 0 {
		for begin := time.Now(); time.Since(begin) < *work; {
		}
	}
}

// BufferSize is the read buffer of every server that can be given one, in bytes.
const BufferSize = 64 << 10

// Until says where the server listens, and answers every line on the standard input with the bytes of heap in use. It
// returns when the input ends. What it prints begins with "= ": some of the peers print too.
func Until(addr string) {
	fmt.Println("=", addr)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var mem runtime.MemStats
		runtime.GC()
		runtime.GC() // twice, so that pools are empty
		runtime.ReadMemStats(&mem)
		fmt.Println("=", mem.HeapAlloc)
	}
}

// Check ends the program if err is not nil.
func Check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// FreeAddr returns an address that is free at this moment, for servers that do not tell which port they got.
func FreeAddr() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	Check(err)
	defer l.Close()
	return l.Addr().String()
}

// Echo sends conn what it sent, until it ends: a goroutine a connection.
func Echo(conn net.Conn, bufferSize int) {
	defer conn.Close()
	buf := make([]byte, bufferSize)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		Work()
		if _, err := conn.Write(buf[:n]); err != nil {
			return
		}
	}
}

// HTTP answers every request with a short page.
func HTTP(l net.Listener) {
	page := []byte("hello\n")
	Check(http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(page) })))
}
