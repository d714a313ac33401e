package msgserver_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/msgserver"
)

// A server that answers each line in upper case.
func Example() {
	type client = *tcpserver.TcpSocket
	var upper msgserver.ThreadServer[client, string]
	upper.ClientConnected = func(socket *tcpserver.TcpSocket) (client, error) { return socket, nil }
	upper.ReadClientMessage = msgserver.Lines[client](1 << 10)
	upper.ClientMessage = func(socket client, line string) {
		upper.SendData(socket, []byte(strings.ToUpper(line)+"\n"))
	}

	var server tcpserver.TcpServer
	if err := server.Listen("tcp", "127.0.0.1:0"); err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- upper.Serve(ctx, &server) }()

	fmt.Print(exchange(server.Addr(), "Hello\nworld\n"))
	cancel()
	fmt.Println(<-ended)
	// Output:
	// HELLO
	// WORLD
	// context canceled
}

// Each message is a line with a JSON value.
func ExampleThreadServer() {
	type request struct{ A, B int }
	line := msgserver.Lines[*tcpserver.TcpSocket](1 << 10)
	var sums msgserver.ThreadServer[*tcpserver.TcpSocket, request]
	sums.ClientConnected = func(socket *tcpserver.TcpSocket) (*tcpserver.TcpSocket, error) { return socket, nil }
	sums.ReadClientMessage = func(socket *tcpserver.TcpSocket, buf []byte) (msg request, n int, err error) {
		text, n, err := line(socket, buf)
		if err == nil && n > 0 {
			err = json.Unmarshal([]byte(text), &msg)
		}
		return msg, n, err
	}
	sums.ClientMessage = func(socket *tcpserver.TcpSocket, r request) {
		reply, _ := json.Marshal(r.A + r.B)
		sums.SendData(socket, append(reply, '\n'))
	}

	var server tcpserver.TcpServer
	if err := server.Listen("tcp", "127.0.0.1:0"); err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- sums.Serve(ctx, &server) }()

	fmt.Print(exchange(server.Addr(), `{"A": 20, "B": 22}`+"\n"))
	cancel()
	fmt.Println(<-ended)
	// Output:
	// 42
	// context canceled
}

// Everything runs on one goroutine, so the counter needs no lock.
func ExampleServerLoop() {
	count := 0
	var loop msgserver.ServerLoop[*tcpserver.TcpSocket]
	loop.NewData = func(socket *tcpserver.TcpSocket) (*tcpserver.TcpSocket, error) { return socket, nil }
	loop.ProcessClientData = func(socket *tcpserver.TcpSocket, buf []byte) (int, error) {
		count += len(buf)
		loop.ClientWrite(socket, fmt.Appendf(nil, "%d bytes so far\n", count))
		return len(buf), nil
	}
	var server tcpserver.TcpServer
	if err := server.Listen("tcp", "127.0.0.1:0"); err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- loop.Serve(ctx, &server) }()

	fmt.Print(exchange(server.Addr(), "Hello"))
	cancel()
	fmt.Println(<-ended)
	// Output:
	// 5 bytes so far
	// context canceled
}

// Run returns when its context ends.
func ExampleThreadServer_Run() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	log := msgserver.ThreadServer[net.Addr, string]{
		ClientConnected:   func(socket *tcpserver.TcpSocket) (net.Addr, error) { return socket.RemoteAddr(), nil },
		ReadClientMessage: msgserver.Lines[net.Addr](512),
		ClientMessage:     func(addr net.Addr, line string) { fmt.Println(addr, line) },
	}
	log.Work(cancel) // to end this example
	fmt.Println(log.Run(ctx, "127.0.0.1", 0))
	// Output: context canceled
}

// Serve is for a server with options of its own.
func ExampleThreadServer_Serve() {
	server := &tcpserver.TcpServer{IdleTimeout: time.Minute, CloseTimeout: time.Second}
	server.SetMaxConnections(100)
	if err := server.Listen("tcp", "127.0.0.1:0"); err != nil {
		fmt.Println(err)
		return
	}

	var lengths msgserver.ThreadServer[*tcpserver.TcpSocket, string]
	lengths.ClientConnected = func(socket *tcpserver.TcpSocket) (*tcpserver.TcpSocket, error) { return socket, nil }
	lengths.ReadClientMessage = msgserver.Lines[*tcpserver.TcpSocket](0)
	lengths.ClientMessage = func(socket *tcpserver.TcpSocket, line string) {
		lengths.SendData(socket, fmt.Appendln(nil, len(line)))
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- lengths.Serve(ctx, server) }()

	fmt.Print(exchange(server.Addr(), "Hello\n"))
	cancel()
	fmt.Println(<-ended)
	// Output:
	// 5
	// context canceled
}

// Connections that another server has accepted become clients too.
func ExampleThreadServer_AddSocket() {
	var chat msgserver.ThreadServer[*tcpserver.TcpSocket, string]
	chat.ClientConnected = func(socket *tcpserver.TcpSocket) (*tcpserver.TcpSocket, error) {
		chat.SendData(socket, []byte("welcome\n"))
		return socket, nil
	}
	_, stop := start(chat.Serve)
	defer stop()

	second := &tcpserver.TcpServer{NewConnectionHandler: func(server *tcpserver.TcpServer) {
		if socket := server.NextPendingConnection(); socket != nil {
			chat.AddSocket(socket)
		}
	}}
	if err := second.Listen("tcp", "127.0.0.1:0"); err != nil {
		fmt.Println(err)
		return
	}
	defer second.Close()

	fmt.Print(exchange(second.Addr(), ""))
	// Output: welcome
}

// Any goroutine may send to a client.
func ExampleThreadServer_SendData() {
	var timer msgserver.ThreadServer[*tcpserver.TcpSocket, string]
	timer.ClientConnected = func(socket *tcpserver.TcpSocket) (*tcpserver.TcpSocket, error) {
		time.AfterFunc(time.Millisecond, func() {
			timer.SendData(socket, []byte("time is up\n"))
			timer.StopClient(socket)
		})
		return socket, nil
	}
	addr, stop := start(timer.Serve)
	defer stop()

	fmt.Print(untilClosed(addr, ""))
	// Output: time is up
}

// What was sent to a client before StopClient still arrives.
func ExampleThreadServer_StopClient() {
	var echo msgserver.ThreadServer[*tcpserver.TcpSocket, string]
	echo.ClientConnected = func(socket *tcpserver.TcpSocket) (*tcpserver.TcpSocket, error) { return socket, nil }
	echo.ReadClientMessage = msgserver.Lines[*tcpserver.TcpSocket](512)
	echo.ClientMessage = func(socket *tcpserver.TcpSocket, line string) {
		echo.SendData(socket, []byte(line+"\n"))
		if line == "quit" {
			echo.StopClient(socket)
		}
	}
	addr, stop := start(echo.Serve)
	defer stop()

	fmt.Print(untilClosed(addr, "hello\nquit\n"))
	// Output:
	// hello
	// quit
}

// A function on the worker may use what the callbacks use, without a lock.
func ExampleThreadServer_Work() {
	users := make(map[*tcpserver.TcpSocket]bool)
	joined := make(chan struct{})
	var chat msgserver.ThreadServer[*tcpserver.TcpSocket, string]
	chat.ClientConnected = func(socket *tcpserver.TcpSocket) (*tcpserver.TcpSocket, error) {
		users[socket] = true
		close(joined)
		return socket, nil
	}
	chat.ClientDisconnected = func(socket *tcpserver.TcpSocket, _ error) { delete(users, socket) }
	addr, stop := start(chat.Serve)
	defer stop()

	conn, err := net.Dial("tcp", addr.String())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()
	<-joined
	count := make(chan int)
	chat.Work(func() { count <- len(users) })
	fmt.Println(<-count, "user")
	// Output: 1 user
}

func ExampleThreadServer_Refused() {
	var small msgserver.ThreadServer[*tcpserver.TcpSocket, string]
	small.Threads, small.MaxSocketsPerThread = 1, 1
	small.ClientConnected = func(socket *tcpserver.TcpSocket) (*tcpserver.TcpSocket, error) {
		small.SendData(socket, []byte("welcome\n"))
		return socket, nil
	}
	addr, stop := start(small.Serve)
	defer stop()

	first, err := net.Dial("tcp", addr.String())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer first.Close()
	bufio.NewReader(first).ReadString('\n')
	fmt.Printf("%q, %d refused\n", exchange(addr, ""), small.Refused())
	// Output: "", 1 refused
}

// Run returns when its context ends.
func ExampleServerLoop_Run() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	received := 0
	loop := msgserver.ServerLoop[struct{}]{
		ProcessClientData: func(_ struct{}, buf []byte) (int, error) { received += len(buf); return len(buf), nil },
		Update:            func() { fmt.Println(received, "bytes so far") },
	}
	loop.Work(cancel) // to end this example
	fmt.Println(loop.Run(ctx, "127.0.0.1", 0))
	// Output:
	// 0 bytes so far
	// context canceled
}

// Serve is for a server with options of its own. One event loop is enough for a ServerLoop.
func ExampleServerLoop_Serve() {
	poller, err := tcpserver.NewPoller(1)
	if err != nil {
		fmt.Println(err)
		return
	}
	server := &tcpserver.TcpServer{Poller: poller, IdleTimeout: time.Minute}
	if err := server.Listen("tcp", "127.0.0.1:0"); err != nil {
		fmt.Println(err)
		return
	}

	var echo msgserver.ServerLoop[*tcpserver.TcpSocket]
	echo.NewData = func(socket *tcpserver.TcpSocket) (*tcpserver.TcpSocket, error) { return socket, nil }
	echo.ProcessClientData = func(socket *tcpserver.TcpSocket, buf []byte) (int, error) {
		echo.ClientWrite(socket, buf)
		return len(buf), nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- echo.Serve(ctx, server) }()

	fmt.Println(exchange(server.Addr(), "Hello"))
	cancel()
	fmt.Println(<-ended)
	// Output:
	// Hello
	// context canceled
}

// What several calls write during a callback is sent together.
func ExampleServerLoop_ClientWrite() {
	var loop msgserver.ServerLoop[*tcpserver.TcpSocket]
	loop.NewData = func(socket *tcpserver.TcpSocket) (*tcpserver.TcpSocket, error) {
		for i := range 3 {
			loop.ClientWrite(socket, fmt.Appendln(nil, i))
		}
		return socket, nil
	}
	loop.ProcessClientData = func(_ *tcpserver.TcpSocket, buf []byte) (int, error) { return len(buf), nil }
	addr, stop := start(loop.Serve)
	defer stop()

	fmt.Print(exchange(addr, ""))
	// Output:
	// 0
	// 1
	// 2
}

// What was written before CloseConnection still arrives.
func ExampleServerLoop_CloseConnection() {
	var loop msgserver.ServerLoop[*tcpserver.TcpSocket]
	loop.NewData = func(socket *tcpserver.TcpSocket) (*tcpserver.TcpSocket, error) { return socket, nil }
	loop.ProcessClientData = func(socket *tcpserver.TcpSocket, buf []byte) (int, error) {
		loop.ClientWrite(socket, []byte("goodbye\n"))
		loop.CloseConnection(socket)
		return len(buf), nil
	}
	addr, stop := start(loop.Serve)
	defer stop()

	fmt.Print(untilClosed(addr, "hello"))
	// Output: goodbye
}

// Each client gets what any client sends.
func ExampleServerLoop_Clients() {
	var chat msgserver.ServerLoop[*tcpserver.TcpSocket]
	chat.NewData = func(socket *tcpserver.TcpSocket) (*tcpserver.TcpSocket, error) { return socket, nil }
	chat.ProcessClientData = func(_ *tcpserver.TcpSocket, buf []byte) (int, error) {
		for socket := range chat.Clients() {
			chat.ClientWrite(socket, buf)
		}
		return len(buf), nil
	}
	addr, stop := start(chat.Serve)
	defer stop()

	fmt.Println(exchange(addr, "Hello"))
	// Output: Hello
}

// A function on the loop's goroutine may use what the callbacks use, without a lock.
func ExampleServerLoop_Work() {
	clients := 0
	joined := make(chan struct{})
	loop := msgserver.ServerLoop[struct{}]{
		NewData: func(*tcpserver.TcpSocket) (struct{}, error) {
			clients++
			close(joined)
			return struct{}{}, nil
		},
		ProcessClientData:  func(_ struct{}, buf []byte) (int, error) { return len(buf), nil },
		ClientDisconnected: func(struct{}) { clients-- },
	}
	addr, stop := start(loop.Serve)
	defer stop()

	conn, err := net.Dial("tcp", addr.String())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()
	<-joined
	count := make(chan int)
	loop.Work(func() { count <- clients })
	fmt.Println(<-count, "client")
	// Output: 1 client
}

// OnError may send a last message to the client that the error concerns.
func ExampleClientError() {
	var lines msgserver.ThreadServer[*tcpserver.TcpSocket, string]
	lines.ReadClientMessage = msgserver.Lines[*tcpserver.TcpSocket](5)
	lines.OnError = func(err error, _ []byte) {
		var failed *msgserver.ClientError
		if errors.As(err, &failed) {
			lines.SendData(failed.Socket, []byte(failed.Err.Error()+"\n"))
		}
	}
	addr, stop := start(lines.Serve)
	defer stop()

	fmt.Print(exchange(addr, "Hello\nworlds\n"))
	// Output: msgserver: line longer than 5 bytes
}

func ExampleLines() {
	decode := msgserver.Lines[any](80)
	line, n, err := decode(nil, []byte("Hello\r\nworld"))
	fmt.Printf("%q %d %v\n", line, n, err)
	// Output: "Hello" 7 <nil>
}

func ExampleLengthPrefix16() {
	decode := msgserver.LengthPrefix16[any](binary.BigEndian, 1000)
	message, n, err := decode(nil, []byte("\x00\x05Hello and more"))
	fmt.Printf("%q %d %v\n", message, n, err)
	// Output: "Hello" 7 <nil>
}

func ExampleLengthPrefix32() {
	decode := msgserver.LengthPrefix32[any](binary.LittleEndian, 1000)
	message, n, err := decode(nil, []byte("\x05\x00\x00\x00Hello and more"))
	fmt.Printf("%q %d %v\n", message, n, err)
	// Output: "Hello" 9 <nil>
}

func ExampleSplit() {
	decode := msgserver.Split[any](bufio.ScanWords)
	word, n, err := decode(nil, []byte("  Hello world"))
	fmt.Printf("%q %d %v\n", word, n, err)
	// Output: "Hello" 8 <nil>
}

// start runs serve, with a server that listens on a free port, until stop is called.
func start(serve func(context.Context, *tcpserver.TcpServer) error) (addr net.Addr, stop func()) {
	server := new(tcpserver.TcpServer)
	if err := server.Listen("tcp", "127.0.0.1:0"); err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- serve(ctx, server) }()
	return server.Addr(), func() {
		cancel()
		<-ended
	}
}

// exchange connects to a server, sends text, ends the stream, and returns everything that the server sends.
func exchange(addr net.Addr, text string) string { return talk(addr, text, true) }

// untilClosed is exchange without ending the stream: the server ends the connection.
func untilClosed(addr net.Addr, text string) string { return talk(addr, text, false) }

func talk(addr net.Addr, text string, closeWrite bool) string {
	conn, err := net.Dial("tcp", addr.String())
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	io.WriteString(conn, text)
	if closeWrite {
		conn.(*net.TCPConn).CloseWrite()
	}
	received, err := io.ReadAll(conn)
	if err != nil {
		return err.Error()
	}
	return string(received)
}
