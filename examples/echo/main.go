// Echo sends back to every client what the client has sent. Its handlers run on the event loops of the poller.
package main

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"os"
	"os/signal"

	"github.com/pullaccept/tcpserver"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:7000", "address to listen on")
	flag.Parse()
	if err := run(*addr); err != nil {
		slog.Error("echo", "error", err)
		os.Exit(1)
	}
}

func run(addr string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	server := &tcpserver.TcpServer{Logger: slog.Default()}
	server.NewConnectionHandler = func(server *tcpserver.TcpServer) {
		if socket := server.NextPendingConnection(); socket != nil {
			slog.Info("connected", "remote", socket.RemoteAddr())
			socket.SetHandlers(&handlers)
		}
	}
	server.AcceptErrorHandler = func(_ *tcpserver.TcpServer, err error) {
		slog.Warn("accepting failed", "error", err)
	}
	if err := server.Listen("tcp", addr); err != nil {
		return err
	}
	slog.Info("listening", "addr", server.Addr())

	<-ctx.Done()
	slog.Info("closing", "connections", server.ConnectionCount())
	return server.Close()
}

var handlers = tcpserver.SocketHandlers{
	ReadyRead: echo,
	// If the peer takes less than it sends, reading is paused until it has taken what is queued.
	BytesWritten: func(socket *tcpserver.TcpSocket, _ int) {
		if socket.BytesToWrite() == 0 {
			socket.ResumeReading()
		}
	},
	Disconnected: func(socket *tcpserver.TcpSocket, err error) {
		slog.Info("disconnected", "remote", socket.RemoteAddr(), "bytes", socket.BytesRead(), "error", err)
	},
}

// echo sends what has been received. If the queue is full, it leaves the bytes unread and pauses reading.
func echo(socket *tcpserver.TcpSocket) {
	received := socket.Peek(64 << 10)
	err := socket.Send(received)
	switch {
	case err == nil:
		socket.Discard(len(received))
	case errors.Is(err, tcpserver.ErrWriteBufferFull):
		socket.PauseReading()
	}
}
