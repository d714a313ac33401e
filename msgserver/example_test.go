package msgserver_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/msgserver"
)

// A JSON value a line.
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
	defer cancel()
	ended := make(chan error)
	go func() { ended <- sums.Serve(ctx, &server) }()

	conn, err := net.Dial("tcp", server.Addr().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Fprintln(conn, `{"A": 20, "B": 22}`)
	reply, _ := bufio.NewReader(conn).ReadString('\n')
	fmt.Print(reply)
	conn.Close()
	cancel()
	fmt.Println(<-ended)
	// Output:
	// 42
	// context canceled
}

// Everything on one goroutine: a counter needs no lock.
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
	defer cancel()
	ended := make(chan error)
	go func() { ended <- loop.Serve(ctx, &server) }()

	conn, err := net.Dial("tcp", server.Addr().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Fprint(conn, "Hello")
	reply, _ := bufio.NewReader(conn).ReadString('\n')
	fmt.Print(reply)
	conn.Close()
	cancel()
	<-ended
	// Output: 5 bytes so far
}
