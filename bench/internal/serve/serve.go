// Package serve has what the servers under test share, such as their protocol with the harness.
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

var work = flag.Duration("work", 0, "processor time to spend on each message before echoing it")

// Work spends the processor time given by the flag -work. A server calls it for each message that it reads.
func Work() {
	if *work > 0 {
		for begin := time.Now(); time.Since(begin) < *work; {
		}
	}
}

// BufferSize is the size in bytes of the read buffer of every server for which it can be configured.
const BufferSize = 64 << 10

// Until prints the address of the server, and answers each line of the standard input with the bytes of heap in use. It
// returns when the input ends. Its lines begin with "= ", because some of the servers' libraries print lines too.
func Until(addr string) {
	fmt.Println("=", addr)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var mem runtime.MemStats
		runtime.GC()
		runtime.GC() // the second collection empties the pools
		runtime.ReadMemStats(&mem)
		fmt.Println("=", mem.HeapAlloc)
	}
}

// Check exits the program if err is not nil.
func Check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// FreeAddr returns an address that is not in use, for libraries that do not report the port they listen on.
func FreeAddr() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	Check(err)
	defer l.Close()
	return l.Addr().String()
}

// Echo echoes what it reads from conn, until conn ends. Each connection has its own goroutine.
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

// HTTP answers each request with a page of 6 bytes.
func HTTP(l net.Listener) {
	page := []byte("hello\n")
	Check(http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(page) })))
}
