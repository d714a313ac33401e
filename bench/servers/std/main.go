// An echo server with the standard library, a goroutine a connection, or its HTTP server.
package main

import (
	"flag"
	"net"

	"github.com/pullaccept/tcpserver/bench/internal/serve"
)

func main() {
	style := flag.String("style", "blocking", "blocking or http")
	buffer := flag.Int("buffer", 4<<10, "bytes a goroutine reads at a time")
	flag.Parse()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	serve.Check(err)
	if *style == "http" {
		go serve.HTTP(l)
	} else {
		go func() {
			for {
				conn, err := l.Accept()
				serve.Check(err)
				go serve.Echo(conn, *buffer)
			}
		}()
	}
	serve.Until(l.Addr().String())
}
