package tcpserver_test

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
)

func TestNextPendingConnectionDoesNotEndPause(t *testing.T) {
	t.Parallel()
	server := listen(t, new(tcpserver.TcpServer))
	before := dialMany(t, server, 2)
	untilPending(t, server, 2)
	server.PauseAccepting()
	after := dialMany(t, server, 3)
	takes(t, server, before...)
	require.Nil(t, server.NextPendingConnection())
	require.False(t, server.IsAccepting())
	mustNotAccept(t, server)

	server.ResumeAccepting()
	takes(t, server, after...)
}

func TestPauseAndResumeAcceptingWorkInAnyState(t *testing.T) {
	t.Parallel()
	server := new(tcpserver.TcpServer)
	server.ResumeAccepting()
	server.PauseAccepting()
	server.PauseAccepting()
	require.False(t, server.IsAccepting())

	// One from before Listen counts, and one that is set stays over Close.
	for range 2 {
		listen(t, server)
		require.True(t, server.IsListening())
		require.False(t, server.IsAccepting())
		dial(t, server)
		mustNotAccept(t, server)
		require.NoError(t, server.Close())
		server.PauseAccepting()
	}

	// Two pauses are ended by one resume, on a closed server too.
	server.ResumeAccepting()
	require.False(t, server.IsAccepting())
	listen(t, server)
	require.True(t, server.IsAccepting())
	takes(t, server, dial(t, server))
}

func TestIsAcceptingFollowsPauseQueueAndClose(t *testing.T) {
	t.Parallel()
	server := new(tcpserver.TcpServer)
	is := func(want bool, state string) {
		t.Helper()
		require.Equal(t, want, server.IsAccepting(), state)
	}
	is(false, "never listened")
	listen(t, server)
	is(true, "listening")
	server.PauseAccepting()
	is(false, "paused")
	server.ResumeAccepting()
	is(true, "resumed")
	server.SetMaxPendingConnections(1)
	client := dial(t, server)
	untilPending(t, server, 1)
	is(false, "full")
	server.PauseAccepting()
	takes(t, server, client)
	is(false, "paused when the queue was drained")
	server.ResumeAccepting()
	is(true, "drained")
	server.SetMaxPendingConnections(0)
	is(false, "limit 0")
	server.SetMaxPendingConnections(1)
	is(true, "limit raised")
	require.NoError(t, server.Close())
	is(false, "closed")
}

func TestNewConnectionHandlerIsCalledOncePerConnection(t *testing.T) {
	t.Parallel()
	const burst = 200
	for name, c := range map[string]struct{ limit, takes int }{
		"TakesNone": {burst, 0},
		"TakesOne":  {30, 1},
		"TakesAll":  {30, burst},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var calls, taken, vain atomic.Int64
			server := &tcpserver.TcpServer{NewConnectionHandler: func(server *tcpserver.TcpServer) {
				calls.Add(1)
				for range c.takes {
					socket := server.NextPendingConnection()
					if socket == nil {
						vain.Add(1)
						return
					}
					taken.Add(1)
					socket.Close()
				}
			}}
			server.SetMaxPendingConnections(c.limit)
			listen(t, server)
			var all sync.WaitGroup
			for range 4 {
				all.Go(func() {
					for range burst / 4 {
						conn, err := net.Dial("tcp", server.Addr().String())
						if err == nil {
							t.Cleanup(func() { conn.Close() })
						}
					}
				})
			}
			all.Wait()
			until(t, func() bool { return calls.Load() >= burst })
			time.Sleep(quiet)
			require.EqualValues(t, burst, calls.Load())
			require.EqualValues(t, burst, server.Stats().Accepted)
			switch c.takes {
			case 0:
				require.Equal(t, burst, server.PendingConnections())
			case 1:
				require.Zero(t, vain.Load(), "called before the connection was queued")
				fallthrough
			default:
				require.EqualValues(t, burst, taken.Load())
			}
		})
	}
}

// The other connections are accepted, although the handler is not called for them before it returns.
func TestBlockingNewConnectionHandlerDoesNotStopAccepting(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan bool, 10), make(chan bool)
	server := &tcpserver.TcpServer{NewConnectionHandler: func(*tcpserver.TcpServer) {
		entered <- true
		<-leave
	}}
	server.PauseAccepting()
	listen(t, server)
	clients := dialMany(t, server, 3)
	server.ResumeAccepting()
	receive(t, entered)
	defer func() { close(leave) }()
	takes(t, server, clients...)
	takes(t, server, dial(t, server))
	require.Empty(t, entered, "two calls at a time")
}

// The system queues one more than asked; the next client waits.
func TestBacklogLimitsConnectionsNotYetAccepted(t *testing.T) {
	t.Parallel()
	server := &tcpserver.TcpServer{Backlog: 3}
	server.PauseAccepting()
	listen(t, server)
	connected := 0
	for range 10 {
		conn, err := net.DialTimeout("tcp", server.Addr().String(), 300*time.Millisecond)
		if err != nil {
			require.True(t, err.(net.Error).Timeout(), err)
			break
		}
		t.Cleanup(func() { conn.Close() })
		connected++
	}
	require.Contains(t, []int{3, 4}, connected)
	server.ResumeAccepting()
	untilPending(t, server, connected)
	dial(t, server)
	untilPending(t, server, connected+1)

	// 0 is the system's maximum.
	most := new(tcpserver.TcpServer)
	most.PauseAccepting()
	listen(t, most)
	dialMany(t, most, 100)
	most.SetMaxPendingConnections(100)
	most.ResumeAccepting()
	untilPending(t, most, 100)
}

func TestResetBeforeAcceptDoesNotStopServer(t *testing.T) {
	t.Parallel()
	handlers := &tcpserver.SocketHandlers{ReadyRead: echoBack}
	server := &tcpserver.TcpServer{
		AcceptErrorHandler: func(_ *tcpserver.TcpServer, err error) { t.Error(err) },
		NewConnectionHandler: func(server *tcpserver.TcpServer) {
			if socket := server.NextPendingConnection(); socket != nil {
				socket.SetHandlers(handlers)
			}
		},
	}
	server.PauseAccepting()
	listen(t, server)
	for range 50 {
		reset(t, dial(t, server))
	}
	server.ResumeAccepting()
	conn := dial(t, server)
	say(t, conn, "hello")
	hear(t, conn, "hello")
	require.True(t, server.IsListening())
}
