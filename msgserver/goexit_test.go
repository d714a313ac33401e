package msgserver

import (
	"bytes"
	"context"
	"net"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/servertest"
)

// serveUntilGoexit serves on a goroutine that a callback ends with runtime.Goexit. gone gets what Serve has panicked
// with, if anything, once it has ended.
func (s *lineServer) serveUntilGoexit(server *tcpserver.TcpServer) (gone <-chan any) {
	ended := make(chan any, 1)
	go func() {
		defer func() { ended <- recover() }()
		s.serve(context.Background(), server)
	}()
	return ended
}

// Without a CloseTimeout a client that is neither refused nor served would hold up Serve for ever.
func TestClientIsRefusedIfConnectedCallsGoexit(t *testing.T) {
	onBoth(t, func(t *testing.T, s *lineServer) {
		s.connected = func(*tcpserver.TcpSocket) error { runtime.Goexit(); return nil }
		disconnected := 0
		s.disconnected = func(*tcpserver.TcpSocket) { disconnected++ }
		server := servertest.Listen(t, &tcpserver.TcpServer{CloseTimeout: -1})
		gone := s.serveUntilGoexit(server)
		conn := dial(t, server)
		require.Nil(t, receive(t, gone))
		conn.ended()
		require.Zero(t, disconnected)
	})
}

// ReadClientMessage ends its own client, also if the connection has ended before. Without a CloseTimeout a client that
// stays would hold up Serve for ever.
func TestGoexitOfReadClientMessageEndsItsClientOnly(t *testing.T) {
	other := servertest.Listen(t, new(tcpserver.TcpServer))
	s, events := journal()
	s.ReadClientMessage = func(string, []byte) (string, int, error) { runtime.Goexit(); return "", 0, nil }
	server := servertest.Listen(t, &tcpserver.TcpServer{CloseTimeout: -1})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, server) }()
	s.AddSocket(endedSocket(t, other, "hello\n"))
	require.Equal(t, "c1 connected", receive(t, events))
	require.Equal(t, "c1 disconnected <nil>", receive(t, events))
	dial(t, server).send("hello\n")
	require.Equal(t, "c2 connected", receive(t, events))
	require.Contains(t, receive(t, events), "c2 disconnected")
	cancel()
	require.ErrorIs(t, receive(t, ended), context.Canceled)
}

func TestServeCanRunAgainAfterEachCallbackCalledGoexit(t *testing.T) {
	onBoth(t, func(t *testing.T, s *lineServer) {
		s.said = func(*tcpserver.TcpSocket, string) { runtime.Goexit() }
		s.disconnected = func(*tcpserver.TcpSocket) { runtime.Goexit() }
		server := servertest.Listen(t, new(tcpserver.TcpServer))
		gone := s.serveUntilGoexit(server)
		conn := dial(t, server)
		dial(t, server)
		conn.send("hello\n")
		receive(t, gone)
		eventually(t, func() bool { return server.ConnectionCount() == 0 }) // the second may have been on its way in
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		require.ErrorIs(t, s.serve(ctx, servertest.Listen(t, new(tcpserver.TcpServer))), context.Canceled)
	})
}

func TestEndOfEarlierServeDoesNotEndTheNext(t *testing.T) {
	onBoth(t, func(t *testing.T, s *lineServer) {
		for range 8 {
			s.said = func(*tcpserver.TcpSocket, string) { runtime.Goexit() }
			server := servertest.Listen(t, new(tcpserver.TcpServer))
			next := servertest.Listen(t, new(tcpserver.TcpServer))
			gone := s.serveUntilGoexit(server)
			dial(t, server).send("hello\n")
			receive(t, gone)

			s.answer()
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan error, 1)
			go func() { ended <- s.serve(ctx, next) }()
			conn := dial(t, next)
			conn.send("x\n")
			select {
			case err := <-ended:
				require.Fail(t, "Serve has ended", "%v", err)
			case <-time.After(time.Millisecond):
			}
			cancel()
			require.ErrorIs(t, receive(t, ended), context.Canceled)
		}
	})
}

func TestServerLoopSendsAgainAfterGoexit(t *testing.T) {
	s := newLineServer(asServerLoop)
	s.maxSend = 1000
	var once sync.Once
	s.disconnected = func(*tcpserver.TcpSocket) { once.Do(runtime.Goexit) }
	connected := make(chan *tcpserver.TcpSocket, 2)
	s.connected = func(socket *tcpserver.TcpSocket) error { connected <- socket; return nil }
	server := servertest.Listen(t, new(tcpserver.TcpServer))
	gone := s.serveUntilGoexit(server)
	dial(t, server) // it does not read
	socket := receive(t, connected)
	dial(t, server)
	receive(t, connected)
	var fill func()
	fill = func() {
		if socket.State() == tcpserver.StateConnected {
			s.write(socket, make([]byte, 32<<10))
			s.work(fill)
		}
	}
	s.work(fill)
	require.Nil(t, receive(t, gone))
}

func TestWorkQueuedBehindGoexitRunsInNextServe(t *testing.T) {
	onBoth(t, func(t *testing.T, s *lineServer) {
		ran := make(chan struct{})
		s.work(runtime.Goexit)
		s.work(func() { close(ran) })
		receive(t, s.serveUntilGoexit(servertest.Listen(t, new(tcpserver.TcpServer))))
		serve(t, s.serve)
		receive(t, ran)
	})
}

func TestNoMessageIsHandledTwiceAfterGoexit(t *testing.T) {
	onBoth(t, func(t *testing.T, s *lineServer) {
		var lines []string
		var once sync.Once
		s.lag = time.Hour
		filled := make(chan struct{})
		s.said = func(socket *tcpserver.TcpSocket, line string) {
			lines = append(lines, line)
			switch line {
			case "fill":
				s.write(socket, make([]byte, 40<<20))
				close(filled)
			case "b":
				once.Do(runtime.Goexit)
			}
		}
		server := servertest.Listen(t, new(tcpserver.TcpServer))
		gone := s.serveUntilGoexit(server)
		conn := dial(t, server)
		conn.send("fill\na\nb\nc\n") // a, b and c wait until the client has received what was written
		receive(t, filled)
		conn.ended()
		receive(t, gone)
		require.Equal(t, slices.Compact(slices.Clone(lines)), lines)
		require.Equal(t, []string{"fill", "a", "b"}, lines[:3])
		require.LessOrEqual(t, len(lines), 4)
	})
}

func TestConcurrentLongRepliesAreOfferedToTheSystem(t *testing.T) {
	s := newLineServer(asThreadServer)
	s.maxSend = 1000
	connected := make(chan *tcpserver.TcpSocket, 1)
	s.connected = func(socket *tcpserver.TcpSocket) error { connected <- socket; return nil }
	s.failed = func(err error) { t.Error(err) }
	server := &tcpserver.TcpServer{WriteBufferSize: 500}
	serveOn(t, server, s.serve)
	for range 30 {
		conn := dial(t, server)
		socket := receive(t, connected)
		begin := make(chan struct{})
		var sent sync.WaitGroup
		sizes := []int{1700, 600, 3000} // the system takes all of it
		for _, size := range sizes {
			sent.Go(func() {
				<-begin
				s.write(socket, bytes.Repeat([]byte("x"), size))
			})
		}
		close(begin)
		sent.Wait()
		conn.Conn.(*net.TCPConn).CloseWrite()
		conn.ended()
	}
}

// An Update that is due while Serve ends must not touch what the next Serve sets. The race detector sees it.
func TestServeAgainWhileTheEarlierTimerFires(t *testing.T) {
	onBoth(t, func(t *testing.T, s *lineServer) {
		s.update = func() {}
		s.updateTime = 20 * time.Microsecond
		for range 100 {
			ctx, cancel := context.WithTimeout(context.Background(), 100*time.Microsecond)
			s.serve(ctx, servertest.Listen(t, new(tcpserver.TcpServer)))
			cancel()
		}
	})
}
