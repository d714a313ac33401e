// Kvloop is a key-value store in memory. It speaks enough of the Redis protocol for redis-cli, redis-benchmark and
// redis-cli --pipe: PING, ECHO, GET, SET, DEL, INCR. A command may be up to 2 MiB long. All callbacks run on one
// goroutine, so nothing needs a lock.
package main

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"os"
	"os/signal"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/msgserver"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:7003", "address to listen on")
	flag.Parse()
	if err := run(*addr); err != nil {
		slog.Error("kvloop", "error", err)
		os.Exit(1)
	}
}

func run(addr string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	poller, err := tcpserver.NewPoller(1)
	if err != nil {
		return err
	}
	server := &tcpserver.TcpServer{Poller: poller}
	if err := server.Listen("tcp", addr); err != nil {
		return err
	}
	slog.Info("listening", "addr", server.Addr())
	err = newLoop().Serve(ctx, server)
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// newLoop returns the server.
func newLoop() *msgserver.ServerLoop[*tcpserver.TcpSocket] {
	store := newStore()
	var command [][]byte
	loop := &msgserver.ServerLoop[*tcpserver.TcpSocket]{
		MaxBufferSize: maxCommand + maxLength, // so that parse sees the length of a value that is too long
		NewData:       func(socket *tcpserver.TcpSocket) (*tcpserver.TcpSocket, error) { return socket, nil },
		OnError:       func(err error) { slog.Warn("client", "error", err) },
	}
	loop.ProcessClientData = func(socket *tcpserver.TcpSocket, buf []byte) (n int, err error) {
		command, n, err = parse(command[:0], buf)
		if err != nil {
			loop.ClientWrite(socket, []byte("-ERR Protocol error: "+err.Error()+"\r\n"))
			return 0, err
		}
		if len(command) > 0 {
			loop.ClientWrite(socket, store.run(command))
		}
		return n, nil
	}
	return loop
}
