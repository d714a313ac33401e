package tcpserver_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pullaccept/tcpserver"
)

// dialTCP connects to a server with the standard library.
func dialTCP(addr net.Addr) *net.TCPConn {
	conn, err := net.Dial("tcp", addr.String())
	if err != nil {
		panic(err)
	}
	return conn.(*net.TCPConn)
}

// exchange connects to a server, sends it text and an end of stream, and returns the answer.
func exchange(addr net.Addr, text string) string {
	conn := dialTCP(addr)
	defer conn.Close()
	io.WriteString(conn, text)
	conn.CloseWrite()
	answer, err := io.ReadAll(conn)
	if err != nil {
		panic(err)
	}
	return string(answer)
}

// connected returns both ends of a connection: the server's socket and the client's. done closes them and the server.
func connected() (socket *tcpserver.TcpSocket, conn *net.TCPConn, done func()) {
	server := new(tcpserver.TcpServer)
	if err := server.Listen("tcp", "127.0.0.1:0"); err != nil {
		panic(err)
	}
	conn = dialTCP(server.Addr())
	socket, err := server.AcceptSocket(context.Background())
	if err != nil {
		panic(err)
	}
	return socket, conn, func() {
		server.Close()
		socket.Abort()
		conn.Close()
	}
}

// greet is a NewConnectionHandler that sends each client a line and closes the connection.
func greet(server *tcpserver.TcpServer) {
	if socket := server.NextPendingConnection(); socket != nil {
		socket.Send([]byte("hello\n"))
		socket.Close()
	}
}

// A server that sends everything back, with one goroutine per client.
func Example() {
	var server tcpserver.TcpServer
	if err := server.Listen("tcp", "127.0.0.1:0"); err != nil {
		fmt.Println(err)
		return
	}
	go func() {
		for socket := range server.Connections(context.Background()) {
			go func() {
				defer socket.Close()
				io.Copy(socket, socket)
			}()
		}
	}()

	fmt.Print(exchange(server.Addr(), "hello\n"))
	server.Close() // ends the loop over Connections
	// Output:
	// hello
}

// Handlers on the event loops: each socket answers in upper case.
func ExampleTcpServer() {
	ended := make(chan error)
	handlers := &tcpserver.SocketHandlers{
		ReadyRead: func(socket *tcpserver.TcpSocket) {
			// If the peer does not take the answer, Write waits, and only this socket waits with it.
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

	fmt.Print(exchange(server.Addr(), "hello\n"))
	fmt.Println("disconnected, error", <-ended)
	// Output:
	// HELLO
	// disconnected, error <nil>
}

// A loop over the connections, and a goroutine for each client.
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
		fmt.Print(exchange(server.Addr(), "hello\n"))
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
	// HELLO
}

// Filter drops connections from a list of prefixes.
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

func ExampleTcpServer_Listen() {
	var server tcpserver.TcpServer
	if err := server.Listen("tcp", "127.0.0.1:0"); err != nil { // port 0: the system picks one
		fmt.Println(err)
		return
	}
	defer server.Close()
	fmt.Println("listening:", server.IsListening(), "port:", server.Port() > 0)

	var other tcpserver.TcpServer
	err := other.Listen("tcp", server.Addr().String())
	fmt.Println("address in use:", errors.Is(err, syscall.EADDRINUSE))
	err = server.Listen("tcp", "127.0.0.1:0")
	fmt.Println("already listening:", errors.Is(err, tcpserver.ErrAlreadyListening))
	// Output:
	// listening: true port: true
	// address in use: true
	// already listening: true
}

// The address is reserved and known before clients can connect.
func ExampleTcpServer_Bind() {
	var server tcpserver.TcpServer
	if err := server.Bind("tcp", "127.0.0.1:0"); err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	fmt.Println("port:", server.Port() > 0, "listening:", server.IsListening())

	if err := server.ListenBound(); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("listening:", server.IsListening())
	// Output:
	// port: true listening: false
	// listening: true
}

// A server uses a listener of package net.
func ExampleTcpServer_ListenOn() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	server := tcpserver.TcpServer{NewConnectionHandler: greet}
	err = server.ListenOn(listener)
	listener.Close() // the server has a duplicate
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	fmt.Print(exchange(server.Addr(), ""))
	// Output:
	// hello
}

// A new server takes over the socket of an old one, which may also be in another process. Clients that connect in
// between wait in the backlog.
func ExampleTcpServer_ListenFile() {
	var before tcpserver.TcpServer
	if err := before.Listen("tcp", "127.0.0.1:0"); err != nil {
		fmt.Println(err)
		return
	}
	addr := before.Addr()
	file, err := before.File()
	before.Close()
	if err != nil {
		fmt.Println(err)
		return
	}

	after := tcpserver.TcpServer{NewConnectionHandler: greet}
	err = after.ListenFile(file)
	file.Close() // the server has a duplicate
	if err != nil {
		fmt.Println(err)
		return
	}
	defer after.Close()
	fmt.Print(exchange(addr, ""))
	// Output:
	// hello
}

// A program that looks for connections when it likes.
func ExampleTcpServer_NextPendingConnection() {
	var server tcpserver.TcpServer
	if err := server.Listen("tcp", "127.0.0.1:0"); err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	fmt.Println("pending:", server.NextPendingConnection() != nil)

	conn := dialTCP(server.Addr())
	defer conn.Close()
	server.WaitForNewConnection(context.Background())
	socket := server.NextPendingConnection()
	defer socket.Close()
	fmt.Println("pending:", socket.RemoteAddr().String() == conn.LocalAddr().String())
	// Output:
	// pending: false
	// pending: true
}

func ExampleTcpServer_WaitForNewConnection() {
	var server tcpserver.TcpServer
	if err := server.Listen("tcp", "127.0.0.1:0"); err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	fmt.Println(server.WaitForNewConnection(ctx))

	conn := dialTCP(server.Addr())
	defer conn.Close()
	fmt.Println(server.WaitForNewConnection(context.Background()), server.HasPendingConnections())
	// Output:
	// context deadline exceeded
	// <nil> true
}

func ExampleTcpServer_AcceptSocket() {
	var server tcpserver.TcpServer
	if err := server.Listen("tcp", "127.0.0.1:0"); err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	conn := dialTCP(server.Addr())
	defer conn.Close()

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	socket, err := server.AcceptSocket(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer socket.Close()
	fmt.Println(socket.State())
	// Output:
	// Connected
}

// A TcpServer is a net.Listener, here of package net/http.
func ExampleTcpServer_Accept() {
	var server tcpserver.TcpServer
	if err := server.Listen("tcp", "127.0.0.1:0"); err != nil {
		fmt.Println(err)
		return
	}
	web := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "hello from", r.URL.Path)
	})}
	go web.Serve(&server)
	defer web.Close() // closes the TcpServer too

	response, err := http.Get("http://" + server.Addr().String() + "/index")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer response.Body.Close()
	fmt.Println(response.Status)
	body, err := io.ReadAll(response.Body)
	fmt.Printf("%s%v\n", body, err)
	// Output:
	// 200 OK
	// hello from /index
	// <nil>
}

func ExampleTcpServer_SetDeadline() {
	var server tcpserver.TcpServer
	if err := server.Listen("tcp", "127.0.0.1:0"); err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	server.SetDeadline(time.Now().Add(10 * time.Millisecond))
	_, err := server.Accept()
	fmt.Println(errors.Is(err, os.ErrDeadlineExceeded))
	// Output:
	// true
}

// While the server is paused, connections wait in the backlog.
func ExampleTcpServer_PauseAccepting() {
	var server tcpserver.TcpServer
	if err := server.Listen("tcp", "127.0.0.1:0"); err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()

	server.PauseAccepting()
	conn := dialTCP(server.Addr())
	defer conn.Close()
	fmt.Println("accepting:", server.IsAccepting(), "pending:", server.PendingConnections())

	server.ResumeAccepting()
	server.WaitForNewConnection(context.Background())
	fmt.Println("accepting:", server.IsAccepting(), "pending:", server.PendingConnections())
	// Output:
	// accepting: false pending: 0
	// accepting: true pending: 1
}

// While the queue is full, connections wait in the backlog.
func ExampleTcpServer_SetMaxPendingConnections() {
	var server tcpserver.TcpServer
	server.SetMaxPendingConnections(1)
	if err := server.Listen("tcp", "127.0.0.1:0"); err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	for range 2 {
		conn := dialTCP(server.Addr())
		defer conn.Close()
	}

	for range 2 {
		server.WaitForNewConnection(context.Background())
		fmt.Println("pending:", server.PendingConnections())
		server.NextPendingConnection().Close()
	}
	// Output:
	// pending: 1
	// pending: 1
}

// Connections beyond the limit are accepted and closed at once.
func ExampleTcpServer_SetMaxConnections() {
	dropped := make(chan tcpserver.Drop)
	server := tcpserver.TcpServer{
		DropHandler: func(_ *tcpserver.TcpServer, drop tcpserver.Drop) { dropped <- drop },
	}
	server.SetMaxConnections(1)
	if err := server.Listen("tcp", "127.0.0.1:0"); err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()

	first := dialTCP(server.Addr())
	defer first.Close()
	second := dialTCP(server.Addr())
	defer second.Close()
	drop := <-dropped
	fmt.Println(drop.Reason, drop.Remote.String() == second.LocalAddr().String())
	// Output:
	// MaxConnections true
}

func ExampleTcpServer_Stats() {
	var server tcpserver.TcpServer
	if err := server.Listen("tcp", "127.0.0.1:0"); err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	conn := dialTCP(server.Addr())
	defer conn.Close()
	server.WaitForNewConnection(context.Background())
	fmt.Printf("%+v\n", server.Stats())
	// Output:
	// {Accepted:1 Dropped:0 AcceptErrors:0 Pending:1 Open:1}
}

// Close ends the listening, but not the connections that the program has taken.
func ExampleTcpServer_Close() {
	var server tcpserver.TcpServer
	if err := server.Listen("tcp", "127.0.0.1:0"); err != nil {
		fmt.Println(err)
		return
	}
	conn := dialTCP(server.Addr())
	defer conn.Close()
	socket, err := server.AcceptSocket(context.Background())
	server.Close()
	if err != nil {
		fmt.Println(err)
		return
	}

	fmt.Println("listening:", server.IsListening())
	io.WriteString(socket, "still connected\n")
	socket.Close()
	received, err := io.ReadAll(conn)
	fmt.Printf("%q %v\n", received, err)
	// Output:
	// listening: false
	// "still connected\n" <nil>
}

// A server gives its clients some time to finish, and then resets their connections.
func ExampleTcpServer_Shutdown() {
	var server tcpserver.TcpServer
	if err := server.Listen("tcp", "127.0.0.1:0"); err != nil {
		fmt.Println(err)
		return
	}
	conn := dialTCP(server.Addr()) // never finishes
	defer conn.Close()
	if _, err := server.AcceptSocket(context.Background()); err != nil {
		fmt.Println(err)
	}

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		fmt.Println(err)
		server.CloseConnections()
	}
	fmt.Println(server.Shutdown(context.Background()), server.ConnectionCount())
	// Output:
	// context deadline exceeded
	// <nil> 0
}

// CloseConnections ends the connections, but not the listening.
func ExampleTcpServer_CloseConnections() {
	var server tcpserver.TcpServer
	if err := server.Listen("tcp", "127.0.0.1:0"); err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	conn := dialTCP(server.Addr())
	defer conn.Close()
	socket, err := server.AcceptSocket(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}

	server.CloseConnections()
	fmt.Println(socket.State(), "listening:", server.IsListening())
	// Output:
	// Unconnected listening: true
}

// The callbacks run on the goroutine of the program's own loop.
func ExampleTcpServer_ListenAsync() {
	ctx, quit := context.WithCancel(context.Background())
	defer quit()
	var queue tcpserver.Queue
	server := tcpserver.TcpServer{Executor: queue.Post}
	server.ListenAsync("tcp", "127.0.0.1:0", func(server *tcpserver.TcpServer, err error) {
		fmt.Println("listening:", server.IsListening(), err)
		server.CloseAsync(func(*tcpserver.TcpServer, error) { quit() })
	})
	queue.Run(ctx)
	// Output:
	// listening: true <nil>
}

func ExampleTcpServer_AcceptAsync() {
	var server tcpserver.TcpServer
	if err := server.Listen("tcp", "127.0.0.1:0"); err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	server.AcceptAsync(ctx, func(_ *tcpserver.TcpServer, socket *tcpserver.TcpSocket, err error) {
		if err != nil {
			fmt.Println(err)
			return
		}
		socket.Send([]byte("hello\n"))
		socket.Close()
	})
	fmt.Print(exchange(server.Addr(), ""))
	// Output:
	// hello
}

// The callback comes after the last connection has ended.
func ExampleTcpServer_CloseAsync() {
	var server tcpserver.TcpServer
	if err := server.Listen("tcp", "127.0.0.1:0"); err != nil {
		fmt.Println(err)
		return
	}
	conn := dialTCP(server.Addr())
	defer conn.Close()
	socket, err := server.AcceptSocket(context.Background())
	if err != nil {
		fmt.Println(err)
	}

	closed := make(chan int)
	server.CloseAsync(func(server *tcpserver.TcpServer, _ error) { closed <- server.ConnectionCount() })
	fmt.Println("connections:", server.ConnectionCount())
	socket.Close()
	fmt.Println("connections:", <-closed)
	// Output:
	// connections: 1
	// connections: 0
}

// A program ends when its servers have nothing left to do.
func ExampleWait() {
	server := tcpserver.TcpServer{NewConnectionHandler: func(server *tcpserver.TcpServer) {
		greet(server)
		server.Close() // after the first client
	}}
	if err := server.Listen("tcp", "127.0.0.1:0"); err != nil {
		fmt.Println(err)
		return
	}
	answer := make(chan string, 1)
	addr := server.Addr()
	go func() { answer <- exchange(addr, "") }()

	fmt.Println(tcpserver.Wait(context.Background()))
	fmt.Print(<-answer)
	// Output:
	// <nil>
	// hello
}

// A TcpSocket is a net.Conn: it works with bufio, fmt, io and everything else that takes one.
func ExampleTcpSocket() {
	socket, conn, done := connected()
	defer done()

	io.WriteString(conn, "ping\n")
	socket.SetDeadline(time.Now().Add(time.Minute))
	line, err := bufio.NewReader(socket).ReadString('\n')
	fmt.Printf("%q %v\n", line, err)
	fmt.Fprintln(socket, "pong")
	line, err = bufio.NewReader(conn).ReadString('\n')
	fmt.Printf("%q %v\n", line, err)
	// Output:
	// "ping\n" <nil>
	// "pong\n" <nil>
}

func ExampleTcpSocket_Read() {
	socket, conn, done := connected()
	defer done()

	io.WriteString(conn, "hello")
	conn.CloseWrite()
	buf := make([]byte, 1024)
	n, err := socket.Read(buf)
	fmt.Printf("%q %v\n", buf[:n], err)
	n, err = socket.Read(buf)
	fmt.Printf("%q %v\n", buf[:n], err)
	// Output:
	// "hello" <nil>
	// "" EOF
}

// Write waits until the system has taken all bytes. It has no limit, unlike Send.
func ExampleTcpSocket_Write() {
	socket, conn, done := connected()
	defer done()

	go func() {
		socket.Write(make([]byte, 4<<20))
		socket.Close()
	}()
	received, err := io.Copy(io.Discard, conn)
	fmt.Println(received, err)
	// Output:
	// 4194304 <nil>
}

func ExampleTcpSocket_TryRead() {
	socket, conn, done := connected()
	defer done()

	buf := make([]byte, 1024)
	_, err := socket.TryRead(buf)
	fmt.Println(errors.Is(err, tcpserver.ErrWouldBlock))

	io.WriteString(conn, "hello")
	socket.WaitForReadyRead(context.Background())
	n, err := socket.TryRead(buf)
	fmt.Printf("%q %v\n", buf[:n], err)
	// Output:
	// true
	// "hello" <nil>
}

// A message is taken only when all of it has arrived. Its first byte is the length of the rest.
func ExampleTcpSocket_Peek() {
	socket, conn, done := connected()
	defer done()

	messages := make(chan string)
	socket.SetHandlers(&tcpserver.SocketHandlers{
		ReadyRead: func(socket *tcpserver.TcpSocket) {
			head := socket.Peek(1)
			if len(head) == 0 {
				return
			}
			size := 1 + int(head[0])
			if message := socket.Peek(size); len(message) == size {
				messages <- string(message[1:])
				socket.Discard(size)
			}
		},
	})
	io.WriteString(conn, "\x05hello\x05wor")
	fmt.Println(<-messages)
	io.WriteString(conn, "ld")
	fmt.Println(<-messages)
	// Output:
	// hello
	// world
}

// BytesAvailable tells whether a header of fixed size has arrived.
func ExampleTcpSocket_BytesAvailable() {
	socket, conn, done := connected()
	defer done()

	binary.Write(conn, binary.BigEndian, uint32(42))
	for socket.BytesAvailable() < 4 {
		if err := socket.WaitForReadyRead(context.Background()); err != nil {
			fmt.Println(err)
			return
		}
	}
	fmt.Println(binary.BigEndian.Uint32(socket.ReadAll()))
	// Output:
	// 42
}

func ExampleTcpSocket_ReadAll() {
	socket, conn, done := connected()
	defer done()

	io.WriteString(conn, "hello")
	socket.WaitForReadyRead(context.Background())
	fmt.Printf("%q\n", socket.ReadAll())
	fmt.Printf("%q\n", socket.ReadAll()) // does not wait
	// Output:
	// "hello"
	// ""
}

// One line in each call is enough: ReadyRead is called again if it took something and left something.
func ExampleTcpSocket_ReadLine() {
	socket, conn, done := connected()
	defer done()

	io.WriteString(conn, "alpha\nbeta\ngam")
	ended := make(chan struct{})
	socket.SetHandlers(&tcpserver.SocketHandlers{
		ReadyRead: func(socket *tcpserver.TcpSocket) {
			if line, ok := socket.ReadLine(); ok {
				fmt.Printf("%q\n", line)
			}
		},
		Disconnected: func(*tcpserver.TcpSocket, error) { close(ended) },
	})
	io.WriteString(conn, "ma\n")
	conn.Close()
	<-ended
	// Output:
	// "alpha\n"
	// "beta\n"
	// "gamma\n"
}

func ExampleTcpSocket_CanReadLine() {
	socket, conn, done := connected()
	defer done()

	io.WriteString(conn, "alpha\nbeta\ngam")
	socket.WaitForReadyRead(context.Background())
	for socket.CanReadLine() {
		line, _ := socket.ReadLine()
		fmt.Printf("%q\n", line)
	}
	fmt.Println("left:", socket.BytesAvailable())
	// Output:
	// "alpha\n"
	// "beta\n"
	// left: 3
}

// Send never waits. It queues what the system does not take at once, up to a limit.
func ExampleTcpSocket_Send() {
	socket, conn, done := connected()
	defer done()

	socket.SetWriteBufferSize(8)
	fmt.Println(socket.Send([]byte("hello")))
	fmt.Println(socket.Send([]byte("too long for the queue")))
	socket.Close()
	received, err := io.ReadAll(conn)
	fmt.Printf("%q %v\n", received, err)
	// Output:
	// <nil>
	// tcpserver: write buffer full
	// "hello" <nil>
}

// The handlers of a connection, in the order in which they are called.
func ExampleTcpSocket_SetHandlers() {
	socket, conn, done := connected()
	defer done()

	ended := make(chan struct{})
	socket.SetHandlers(&tcpserver.SocketHandlers{
		ReadyRead: func(socket *tcpserver.TcpSocket) {
			if received := socket.ReadAll(); len(received) > 0 { // the end of the stream is announced too
				fmt.Printf("received %q\n", received)
			}
		},
		ReadClosed: func(socket *tcpserver.TcpSocket) { fmt.Println("end of stream") },
		Disconnected: func(_ *tcpserver.TcpSocket, err error) {
			fmt.Println("disconnected, error", err)
			close(ended)
		},
	})
	io.WriteString(conn, "hello")
	conn.CloseWrite()
	<-ended
	// Output:
	// received "hello"
	// end of stream
	// disconnected, error <nil>
}

// Back-pressure: what the peer sends is read no faster than it takes the answers.
func ExampleTcpSocket_PauseReading() {
	socket, conn, done := connected()
	defer done()

	socket.SetHandlers(&tcpserver.SocketHandlers{
		ReadyRead: func(socket *tcpserver.TcpSocket) {
			received := socket.Peek(64 << 10)
			if socket.Send(received) == nil {
				socket.Discard(len(received))
			} else {
				socket.PauseReading() // the send queue is full
			}
		},
		BytesWritten: func(socket *tcpserver.TcpSocket, _ int) { socket.ResumeReading() },
	})
	go func() {
		conn.Write(make([]byte, 8<<20))
		conn.CloseWrite()
	}()
	echoed, err := io.Copy(io.Discard, conn)
	fmt.Println(echoed, err)
	// Output:
	// 8388608 <nil>
}

// CloseWrite ends one direction. The other one stays open.
func ExampleTcpSocket_CloseWrite() {
	socket, conn, done := connected()
	defer done()

	socket.Send([]byte("any questions?\n"))
	socket.CloseWrite()
	question, _ := io.ReadAll(conn)
	fmt.Printf("%s", question)
	io.WriteString(conn, "none\n")
	conn.Close()
	answer, _ := io.ReadAll(socket)
	fmt.Printf("%s", answer)
	// Output:
	// any questions?
	// none
}

// Close returns at once. What Send has queued is still sent.
func ExampleTcpSocket_Close() {
	socket, conn, done := connected()
	defer done()

	socket.Send(make([]byte, 1<<20))
	socket.Close()
	received, err := io.Copy(io.Discard, conn)
	fmt.Println(received, err)
	// Output:
	// 1048576 <nil>
}

// Abort drops what is queued and resets the connection.
func ExampleTcpSocket_Abort() {
	socket, _, done := connected()
	defer done()

	socket.Send(make([]byte, 1<<20))
	socket.Abort()
	fmt.Println(socket.State(), socket.BytesToWrite(), socket.Err())
	// Output:
	// Unconnected 0 <nil>
}

func ExampleTcpSocket_SetIdleTimeout() {
	socket, _, done := connected()
	defer done()

	socket.SetIdleTimeout(10 * time.Millisecond)
	socket.WaitForDisconnected(context.Background())
	fmt.Println(socket.Err())
	// Output:
	// tcpserver: idle timeout
}

func ExampleTcpSocket_SetReadDeadline() {
	socket, conn, done := connected()
	defer done()

	buf := make([]byte, 1024)
	socket.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	_, err := socket.Read(buf)
	fmt.Println(errors.Is(err, os.ErrDeadlineExceeded))

	socket.SetReadDeadline(time.Time{}) // no deadline
	io.WriteString(conn, "hello")
	n, err := socket.Read(buf)
	fmt.Printf("%q %v\n", buf[:n], err)
	// Output:
	// true
	// "hello" <nil>
}

func ExampleTcpSocket_SetUserData() {
	socket, _, done := connected()
	defer done()

	type session struct{ name string }
	socket.SetUserData(&session{"ann"})
	fmt.Println(socket.UserData().(*session).name)
	// Output:
	// ann
}

func ExampleTcpSocket_WaitForReadyRead() {
	socket, conn, done := connected()
	defer done()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	fmt.Println(socket.WaitForReadyRead(ctx))

	io.WriteString(conn, "hello")
	fmt.Println(socket.WaitForReadyRead(context.Background()))
	fmt.Printf("%q\n", socket.ReadAll())
	// Output:
	// context deadline exceeded
	// <nil>
	// "hello"
}

// A loop that sends no faster than the peer receives.
func ExampleTcpSocket_WaitForBytesWritten() {
	socket, conn, done := connected()
	defer done()

	go func() {
		defer socket.Close()
		for range 8 {
			socket.Send(make([]byte, 1<<20))
			if err := socket.WaitForBytesWritten(context.Background()); err != nil {
				return
			}
		}
	}()
	received, err := io.Copy(io.Discard, conn)
	fmt.Println(received, err)
	// Output:
	// 8388608 <nil>
}

// After Close, WaitForDisconnected waits until everything is sent.
func ExampleTcpSocket_WaitForDisconnected() {
	socket, conn, done := connected()
	defer done()

	go io.Copy(io.Discard, conn)
	socket.Send(make([]byte, 1<<20))
	socket.Close()
	err := socket.WaitForDisconnected(context.Background())
	fmt.Println(err, socket.State(), socket.BytesSent())
	// Output:
	// <nil> Unconnected 1048576
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

	go exchange(server.Addr(), "hello")

	// A program that draws calls queue.RunPending for each frame instead.
	fmt.Println(queue.Run(ctx))
	fmt.Println(received, "bytes")
	// Output:
	// context canceled
	// 5 bytes
}

// Other goroutines hand work to the goroutine that runs the queue.
func ExampleQueue_Post() {
	ctx, quit := context.WithCancel(context.Background())
	defer quit()
	var queue tcpserver.Queue
	go func() {
		queue.Post(func() { fmt.Println("first") })
		queue.Post(func() { fmt.Println("second") })
		queue.Post(quit)
	}()
	queue.Run(ctx)
	// Output:
	// first
	// second
}

// Run is the loop of a program that has no other. It returns when the context ends.
func ExampleQueue_Run() {
	ctx, quit := context.WithCancel(context.Background())
	defer quit()
	var queue tcpserver.Queue
	queue.Post(func() {
		fmt.Println("hello")
		quit()
	})
	fmt.Println(queue.Run(ctx))
	// Output:
	// hello
	// context canceled
}

// Wake tells a program that waits for events that it should call RunPending.
func ExampleQueue_RunPending() {
	queue := tcpserver.Queue{Wake: func() { fmt.Println("wake") }}
	queue.Post(func() { fmt.Println("first") })
	queue.Post(func() { fmt.Println("second") })
	fmt.Println(queue.RunPending())
	// Output:
	// wake
	// first
	// second
	// 2
}

// Two servers share a poller with one event loop.
func ExampleNewPoller() {
	poller, err := tcpserver.NewPoller(1)
	if err != nil {
		fmt.Println(err)
		return
	}
	for range 2 {
		server := tcpserver.TcpServer{Poller: poller, NewConnectionHandler: greet}
		if err := server.Listen("tcp", "127.0.0.1:0"); err != nil {
			fmt.Println(err)
			return
		}
		defer server.Close()
		fmt.Print(exchange(server.Addr(), ""))
	}
	// Output:
	// hello
	// hello
}

// Close ends everything that uses the poller.
func ExamplePoller_Close() {
	poller, err := tcpserver.NewPoller(1)
	if err != nil {
		fmt.Println(err)
		return
	}
	server := tcpserver.TcpServer{Poller: poller}
	if err := server.Listen("tcp", "127.0.0.1:0"); err != nil {
		fmt.Println(err)
		return
	}
	poller.Close()
	fmt.Println("listening:", server.IsListening())
	err = server.Listen("tcp", "127.0.0.1:0")
	fmt.Println("poller closed:", errors.Is(err, net.ErrClosed))
	// Output:
	// listening: false
	// poller closed: true
}

// A poller has as many event loops as NewPoller was asked for, or GOMAXPROCS.
func ExamplePoller_Loops() {
	poller, err := tcpserver.NewPoller(2)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(poller.Loops())
	// Output:
	// 2
}
