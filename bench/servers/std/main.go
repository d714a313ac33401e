// Std is an echo server with the standard library and one goroutine per connection, or the HTTP server of net/http.
package main

import (
	"flag"
	"net"

	"github.com/pullaccept/tcpserver/bench/internal/serve"
)

func main() {
	style := flag.String("style", "blocking", "`style`: blocking or http")
	buffer := flag.Int("buffer", 4<<10, "read buffer of a goroutine, in bytes")
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
