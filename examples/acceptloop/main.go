// Acceptloop answers every line of a client in upper case. It is an explicit loop, with a goroutine a client.
package main

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"log/slog"
	"os"
	"os/signal"
	"sync"

	"github.com/pullaccept/tcpserver"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:7001", "address to listen on")
	flag.Parse()
	if err := run(*addr); err != nil {
		slog.Error("acceptloop", "error", err)
		os.Exit(1)
	}
}

func run(addr string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	var server tcpserver.TcpServer
	if err := server.Listen("tcp", addr); err != nil {
		return err
	}
	defer server.Close()
	slog.Info("listening", "addr", server.Addr())

	var clients sync.WaitGroup
	for socket := range server.Connections(ctx) {
		clients.Go(func() {
			// The end of the program ends the conversations.
			defer context.AfterFunc(ctx, func() { socket.Close() })()
			serve(socket)
		})
	}
	slog.Info("closing", "connections", server.ConnectionCount())
	clients.Wait()
	return nil
}

func serve(socket *tcpserver.TcpSocket) {
	defer socket.Close()
	log := slog.With("remote", socket.RemoteAddr())
	log.Info("connected")
	lines := bufio.NewScanner(socket)
	for lines.Scan() {
		if _, err := socket.Write(append(bytes.ToUpper(lines.Bytes()), '\n')); err != nil {
			log.Warn("writing failed", "error", err)
			return
		}
	}
	log.Info("disconnected", "error", lines.Err())
}
