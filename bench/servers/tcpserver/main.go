// Tcpserver is an echo server with this library.
package main

import (
	"context"
	"flag"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/bench/internal/serve"
)

func main() {
	style := flag.String("style", "handlers", "`style`: handlers, blocking or http")
	buffer := flag.Int("buffer", 4<<10, "read buffer of a goroutine in the blocking style, in bytes")
	flag.Parse()

	var server tcpserver.TcpServer
	if *style == "handlers" {
		server.NewConnectionHandler = func(server *tcpserver.TcpServer) {
			if socket := server.NextPendingConnection(); socket != nil {
				socket.SetHandlers(&handlers)
			}
		}
	}
	serve.Check(server.Listen("tcp", "127.0.0.1:0"))
	switch *style {
	case "blocking":
		go func() {
			for socket := range server.Connections(context.Background()) {
				go serve.Echo(socket, *buffer)
			}
		}()
	case "http":
		go serve.HTTP(&server)
	}
	serve.Until(server.Addr().String())
}

var handlers = tcpserver.SocketHandlers{
	ReadyRead: func(socket *tcpserver.TcpSocket) {
		p := socket.Peek(serve.BufferSize)
		serve.Work()
		if socket.Send(p) == nil {
			socket.Discard(len(p))
		} else {
			socket.PauseReading()
		}
	},
	BytesWritten: func(socket *tcpserver.TcpSocket, _ int) { socket.ResumeReading() },
}
