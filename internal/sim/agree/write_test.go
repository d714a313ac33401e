//go:build sim

package agree

import (
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/sched"
	"github.com/pullaccept/tcpserver/internal/sim"
)

// narrow is a system that takes few bytes at a time.
var narrow = sim.Config{SendBuffer: 64, ReceiveBuffer: 64}

// A Write that is cut off with something behind it ends the connection. Until then the loop may go on sending.
func TestCutOffWriteReportsWhatWasSentAndResets(t *testing.T) {
	for behind, queue := range map[string]func(*tcpserver.TcpSocket){
		"Send":       func(socket *tcpserver.TcpSocket) { socket.Send([]byte("S")) },
		"Write":      func(socket *tcpserver.TcpSocket) { sched.Go(func() { socket.Write([]byte("W")) }) },
		"CloseWrite": func(socket *tcpserver.TcpSocket) { socket.CloseWrite() },
	} {
		t.Run(behind, func(t *testing.T) { runSeeds(t, 2000, narrow, func() { cutWriteOff(queue) }) })
	}
}

func cutWriteOff(queue func(*tcpserver.TcpSocket)) {
	const limit = 20 * time.Millisecond
	server := new(tcpserver.TcpServer)
	socket, conn := mustConnect(server)
	var n, sent int
	var err error
	socket.SetWriteDeadline(time.Now().Add(limit))
	sched.Go(func() {
		n, err = socket.Write(make([]byte, 65+sched.Intn(352)))
		sent = int(socket.BytesSent())
		sched.Sleep(time.Second)
		socket.Close() // if it was not cut off before what is behind it
	})
	sched.Sleep(time.Millisecond)
	queue(socket)
	sched.Sleep(limit - time.Millisecond)
	points(30)
	got, end := 0, error(nil)
	for p := make([]byte, 1000); end == nil; {
		var m int
		m, end = conn.Recv(p)
		got += m
	}
	sched.Sleep(time.Second)
	if n > 0 && errors.Is(err, os.ErrDeadlineExceeded) && socket.Err() == os.ErrDeadlineExceeded {
		if end == io.EOF || sent > n {
			sched.Fail("Write returned %d, the system took %d, the client got %d and %v", n, sent, got, end)
		}
	}
	conn.Close()
	socket.Abort()
	server.Close()
}

func TestErrIsNilIfCloseCutsOffWriteAtItsDeadline(t *testing.T) {
	const limit = 20 * time.Millisecond
	runSeeds(t, 1000, narrow, func() {
		server := new(tcpserver.TcpServer)
		socket, conn := mustConnect(server)
		socket.SetWriteDeadline(time.Now().Add(limit))
		sched.Go(func() { socket.Write(make([]byte, 300)) })
		sched.Sleep(limit)
		points(20)
		err := socket.Close()
		sched.Sleep(time.Second)
		if err != nil || socket.Err() != nil {
			sched.Fail("Close returned %v, Err %v", err, socket.Err())
		}
		conn.Close()
		server.Close()
	})
}

// Whoever sends from the queue schedules BytesWritten afterwards. ReadClosed, and with it the end, may come between.
func TestBytesWrittenComesBeforeDisconnected(t *testing.T) {
	runSeeds(t, 10000, narrow, func() {
		server := &tcpserver.TcpServer{Executor: func(f func()) { sched.Go(f) }}
		socket, conn := mustConnect(server)
		ended := false
		socket.SetHandlers(&tcpserver.SocketHandlers{
			BytesWritten: func(*tcpserver.TcpSocket, int) {
				if ended {
					sched.Fail("BytesWritten after Disconnected")
				}
			},
			Disconnected: func(*tcpserver.TcpSocket, error) { ended = true },
		})
		sched.Go(func() {
			points(10)
			socket.Send(make([]byte, 300))
			points(60)
			socket.CloseWrite()
		})
		sched.Go(func() {
			for range sched.Intn(4) {
				conn.Recv(make([]byte, 64))
			}
			points(10)
			conn.CloseWrite()
			readToEnd(conn)
		})
		sched.Sleep(time.Minute)
		if n := tcpserver.Inspect(socket).Unreported; !ended || n > 0 {
			sched.Fail("ended: %v, BytesWritten has not reported %d", ended, n)
		}
		conn.Close()
		server.Close()
	})
}

func TestWaitForBytesWrittenWaitsForTheLastByte(t *testing.T) {
	runSeeds(t, 1, narrow, func() {
		server := new(tcpserver.TcpServer)
		socket, conn := mustConnect(server)
		socket.Send(make([]byte, narrow.SendBuffer+narrow.ReceiveBuffer))
		sched.Sleep(time.Second)
		socket.Send([]byte("x"))
		if n := socket.BytesToWrite(); n != 1 {
			sched.Fail("%d bytes are queued", n)
		}
		if err := socket.WaitForBytesWritten(sched.NewContext(time.Minute)); err == nil {
			sched.Fail("WaitForBytesWritten has returned")
		}
		conn.Close()
		socket.Abort()
		server.Close()
	})
}

func readToEnd(conn *sim.Conn) {
	for p := make([]byte, 64); ; {
		if _, err := conn.Recv(p); err != nil {
			return
		}
	}
}
