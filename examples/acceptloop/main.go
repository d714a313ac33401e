// Acceptloop answers every line of a client in upper case, and a line of more than 64 KiB with an error. It accepts
// connections in a loop and serves each client on a goroutine of its own.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
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
	server.AcceptErrorHandler = func(_ *tcpserver.TcpServer, err error) {
		slog.Warn("accepting failed", "error", err)
	}
	if err := server.Listen("tcp", addr); err != nil {
		return err
	}
	defer server.Close()
	slog.Info("listening", "addr", server.Addr())

	var clients sync.WaitGroup
	for socket := range server.Connections(ctx) {
		clients.Go(func() {
			// When the program ends, close the connection.
			defer context.AfterFunc(ctx, func() { socket.Close() })()
			serve(socket)
		})
	}
	slog.Info("closing", "connections", server.ConnectionCount())
	clients.Wait()
	return nil
}

// maxLine is the length of the longest line that is answered, in bytes, including its end.
const maxLine = 64 << 10

// serve answers the lines of one client until the connection ends.
func serve(socket *tcpserver.TcpSocket) {
	defer socket.Close()
	log := slog.With("remote", socket.RemoteAddr())
	log.Info("connected")
	lines := bufio.NewReaderSize(socket, maxLine)
	for {
		answer, err := next(lines)
		if len(answer) > 0 {
			if _, err := socket.Write(answer); err != nil {
				log.Warn("writing failed", "error", err)
				return
			}
		}
		if err != nil {
			log.Info("disconnected", "error", err)
			return
		}
	}
}

// next returns the answer to the next line. The last line need not have an end; its answer is returned with io.EOF.
func next(lines *bufio.Reader) (answer []byte, err error) {
	line, err := lines.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = lines.ReadSlice('\n')
		}
		return []byte("error: a line of more than 64 KiB\n"), err
	}
	if len(line) == 0 {
		return nil, err
	}
	line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte{'\n'}), []byte{'\r'})
	return append(bytes.ToUpper(line), '\n'), err
}
