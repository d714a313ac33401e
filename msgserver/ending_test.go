package msgserver

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/servertest"
)

// A program whose main loop ends with the same context no longer runs its Executor.
func TestServeEndsWithoutItsExecutor(t *testing.T) {
	onBoth(t, func(t *testing.T, s *lineServer) {
		queue := new(tcpserver.Queue)
		server := &tcpserver.TcpServer{Executor: queue.Post, CloseTimeout: 50 * time.Millisecond}
		servertest.Listen(t, server)
		ctx, cancel := context.WithCancel(context.Background())
		quit, ended := make(chan error, 1), make(chan error, 1)
		go func() { quit <- queue.Run(ctx) }()
		disconnected := make(chan struct{})
		s.said = func(socket *tcpserver.TcpSocket, line string) { s.write(socket, []byte(line+"!\n")) }
		s.disconnected = func(*tcpserver.TcpSocket) { close(disconnected) }
		go func() { ended <- s.serve(ctx, server) }()
		conn := dial(t, server)
		conn.send("hello\n")
		require.Equal(t, "hello!\n", conn.line())
		cancel()
		receive(t, quit)
		require.ErrorIs(t, receive(t, ended), context.Canceled)
		receive(t, disconnected)
		// The handlers that come late do nothing.
		queue.RunPending()
		again, stop := context.WithCancel(context.Background())
		stop()
		require.ErrorIs(t, s.serve(again, servertest.Listen(t, new(tcpserver.TcpServer))), context.Canceled)
	})
}

// A program that ends a goroutine in a callback, as t.FailNow does, can call Serve again.
func TestServeEndsInOrderAfterGoexit(t *testing.T) {
	onBoth(t, func(t *testing.T, s *lineServer) {
		s.said = func(*tcpserver.TcpSocket, string) { runtime.Goexit() }
		left := make(chan struct{}, 1)
		s.disconnected = func(*tcpserver.TcpSocket) { left <- struct{}{} }
		server := servertest.Listen(t, new(tcpserver.TcpServer))
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			s.serve(context.Background(), server)
		}()
		conn := dial(t, server)
		conn.send("hello\n")
		conn.ended()
		receive(t, left)
		receive(t, gone)
		require.False(t, server.IsListening())
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		require.ErrorIs(t, s.serve(ctx, servertest.Listen(t, new(tcpserver.TcpServer))), context.Canceled)
	})
}

func TestUpdateFollowsTheLastBatch(t *testing.T) {
	processed, updated := false, false
	connected := make(chan *tcpserver.TcpSocket, 1)
	l := &ServerLoop[int]{
		UpdateTime: time.Hour,
		NewData:    func(socket *tcpserver.TcpSocket) (int, error) { connected <- socket; return 0, nil },
		ProcessClientData: func(_ int, buf []byte) (int, error) {
			processed, updated = true, false
			return len(buf), nil
		},
		Update: func() { updated = true },
	}
	ctx, cancel := context.WithCancel(context.Background())
	server := servertest.Listen(t, new(tcpserver.TcpServer))
	ended := make(chan error, 1)
	go func() { ended <- l.Serve(ctx, server) }()
	conn := dial(t, server)
	socket := receive(t, connected)
	l.Work(func() { // while it runs, the bytes come and Serve is ended
		conn.send("x")
		eventually(t, func() bool { return socket.BytesRead() == 1 })
		cancel()
		eventually(t, func() bool { return l.endedWith() != nil })
	})
	require.ErrorIs(t, receive(t, ended), context.Canceled)
	require.True(t, processed)
	require.True(t, updated)
}

// endedWith returns why accepting has ended, or nil.
func (l *ServerLoop[D]) endedWith() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ended
}

func TestUpdateGoesOnWhileServeEnds(t *testing.T) {
	onBoth(t, func(t *testing.T, s *lineServer) {
		s.updateTime, s.lag = 10*time.Millisecond, time.Hour
		ctx, cancel := context.WithCancel(context.Background())
		updates := 0
		s.update = func() {
			if ctx.Err() != nil {
				updates++
			}
		}
		connected := make(chan *tcpserver.TcpSocket, 1)
		s.connected = func(socket *tcpserver.TcpSocket) error { connected <- socket; return nil }
		server := servertest.Listen(t, &tcpserver.TcpServer{CloseTimeout: time.Second})
		ended := make(chan error, 1)
		go func() { ended <- s.serve(ctx, server) }()
		dial(t, server)
		socket := receive(t, connected)
		s.work(func() { s.write(socket, make([]byte, 40<<20)) }) // the client does not read
		eventually(t, func() bool { return socket.BytesToWrite() > 0 })
		cancel()
		require.ErrorIs(t, receive(t, ended), context.Canceled)
		require.Greater(t, updates, 5)
	})
}

// The worker learns of the connection only when Serve is about to return.
func TestConnectionAddedWhileServeEndsIsCountedInRefused(t *testing.T) {
	other := servertest.Listen(t, new(tcpserver.TcpServer))
	servertest.Dial(t, other.Addr())
	socket, err := other.AcceptSocket(context.Background())
	require.NoError(t, err)
	s := &ThreadServer[int, string]{
		ClientConnected: func(*tcpserver.TcpSocket) (int, error) { t.Error("connected"); return 0, nil },
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.Work(func() {
		s.AddSocket(socket)
		cancel()
		eventually(t, func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.ended != nil })
	})
	require.ErrorIs(t, s.Serve(ctx, servertest.Listen(t, new(tcpserver.TcpServer))), context.Canceled)
	require.Equal(t, tcpserver.StateUnconnected, socket.State())
	require.EqualValues(t, 1, s.Refused())
}
