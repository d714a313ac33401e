package tcpserver_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/pullaccept/tcpserver"
)

// Handlers on the poller: each socket answers what it gets in upper case.
func ExampleTcpServer() {
	ended := make(chan error)
	handlers := &tcpserver.SocketHandlers{
		ReadyRead: func(socket *tcpserver.TcpSocket) {
			// If the peer does not take the answer, this waits, and only this socket with it.
			socket.Write(bytes.ToUpper(socket.ReadAll()))
		},
		Disconnected: func(_ *tcpserver.TcpSocket, err error) { ended <- err },
	}
	server := &tcpserver.TcpServer{
		NewConnectionHandler: func(server *tcpserver.TcpServer) {
			if socket := server.NextPendingConnection(); socket != nil {
				socket.SetHandlers(handlers)
			}
		},
	}
	if err := server.Listen("tcp", "127.0.0.1:0"); err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()

	// A client that sends all it has to say, and then reads the answer to its end.
	client, err := net.Dial("tcp", server.Addr().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	io.WriteString(client, "hello\n")
	client.(*net.TCPConn).CloseWrite()
	answer, err := io.ReadAll(client)
	fmt.Printf("answer %q, error %v\n", answer, err)
	fmt.Println("disconnected, error", <-ended)
	// Output:
	// answer "HELLO\n", error <nil>
	// disconnected, error <nil>
}

// An explicit loop, and a goroutine a client.
func ExampleTcpServer_Connections() {
	var server tcpserver.TcpServer
	if err := server.Listen("tcp", "127.0.0.1:0"); err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()

	go func() {
		defer stop() // ends the loop below
		client, err := net.Dial("tcp", server.Addr().String())
		if err != nil {
			fmt.Println(err)
			return
		}
		defer client.Close()
		io.WriteString(client, "hello\n")
		answer, _ := bufio.NewReader(client).ReadString('\n')
		fmt.Printf("answer %q\n", answer)
	}()

	var clients sync.WaitGroup
	for socket := range server.Connections(ctx) {
		clients.Go(func() {
			defer socket.Close()
			lines := bufio.NewScanner(socket)
			for lines.Scan() {
				fmt.Fprintln(socket, strings.ToUpper(lines.Text()))
			}
		})
	}
	clients.Wait()
	// Output:
	// answer "HELLO\n"
}

// Handlers on the goroutine of the program's own loop. What they share needs no lock.
func ExampleQueue() {
	ctx, quit := context.WithCancel(context.Background())
	defer quit()

	var queue tcpserver.Queue
	received := 0
	handlers := &tcpserver.SocketHandlers{
		ReadyRead: func(socket *tcpserver.TcpSocket) {
			received += len(socket.ReadAll())
		},
		Disconnected: func(*tcpserver.TcpSocket, error) { quit() },
	}
	server := &tcpserver.TcpServer{
		Executor: queue.Post,
		NewConnectionHandler: func(server *tcpserver.TcpServer) {
			if socket := server.NextPendingConnection(); socket != nil {
				socket.SetHandlers(handlers)
			}
		},
	}
	if err := server.Listen("tcp", "127.0.0.1:0"); err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()

	client, err := net.Dial("tcp", server.Addr().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	io.WriteString(client, "hello")
	client.Close()

	// A program that draws calls queue.RunPending for each frame instead.
	fmt.Println(queue.Run(ctx))
	fmt.Println(received, "bytes")
	// Output:
	// context canceled
	// 5 bytes
}

// Taking one line in each call is enough: ReadyRead is called again while it takes something and leaves something.
func ExampleTcpSocket_ReadLine() {
	var server tcpserver.TcpServer
	if err := server.Listen("tcp", "127.0.0.1:0"); err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()

	client, err := net.Dial("tcp", server.Addr().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	io.WriteString(client, "alpha\nbeta\ngam")
	socket, err := server.AcceptSocket(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	ended := make(chan struct{})
	socket.SetHandlers(&tcpserver.SocketHandlers{
		ReadyRead: func(socket *tcpserver.TcpSocket) {
			if line, ok := socket.ReadLine(); ok {
				fmt.Printf("%q\n", line)
			}
		},
		Disconnected: func(*tcpserver.TcpSocket, error) { close(ended) },
	})
	io.WriteString(client, "ma\n")
	client.Close()
	<-ended
	// Output:
	// "alpha\n"
	// "beta\n"
	// "gamma\n"
}

// A list of prefixes that are rejected.
func ExampleTcpServer_filter() {
	blocked := []netip.Prefix{
		netip.MustParsePrefix("192.0.2.0/24"),
		netip.MustParsePrefix("2001:db8::/32"),
	}
	server := tcpserver.TcpServer{
		Filter: func(remote netip.AddrPort) bool {
			return !slices.ContainsFunc(blocked, func(p netip.Prefix) bool { return p.Contains(remote.Addr()) })
		},
	}
	for _, remote := range []string{"192.0.2.7:1234", "198.51.100.7:1234", "[2001:db8::1]:1234"} {
		fmt.Println(remote, server.Filter(netip.MustParseAddrPort(remote)))
	}
	// Output:
	// 192.0.2.7:1234 false
	// 198.51.100.7:1234 true
	// [2001:db8::1]:1234 false
}
