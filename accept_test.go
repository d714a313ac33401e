package tcpserver_test

import (
	"net"
	"net/netip"
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
	mustTake(t, server, before...)
	require.Nil(t, server.NextPendingConnection())
	require.False(t, server.IsAccepting())
	mustNotAccept(t, server)

	server.ResumeAccepting()
	mustTake(t, server, after...)
}

func TestPauseAndResumeAcceptingWorkInAnyState(t *testing.T) {
	t.Parallel()
	server := new(tcpserver.TcpServer)
	server.ResumeAccepting()
	server.PauseAccepting()
	server.PauseAccepting()
	require.False(t, server.IsAccepting())

	// A pause set before Listen takes effect, and a pause outlasts Close.
	for range 2 {
		listen(t, server)
		require.True(t, server.IsListening())
		require.False(t, server.IsAccepting())
		dial(t, server)
		mustNotAccept(t, server)
		require.NoError(t, server.Close())
		server.PauseAccepting()
	}

	// One ResumeAccepting ends two pauses, also on a closed server.
	server.ResumeAccepting()
	require.False(t, server.IsAccepting())
	listen(t, server)
	require.True(t, server.IsAccepting())
	mustTake(t, server, dial(t, server))
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
	mustTake(t, server, client)
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

// A server that hands its socket over has to know when the last connection is in its queue, which Close would end.
func TestIsAcceptingUntilConnectionBegunBeforePauseIsQueued(t *testing.T) {
	t.Parallel()
	entered, decide := make(chan bool, 1), make(chan bool)
	server := &tcpserver.TcpServer{Filter: func(netip.AddrPort) bool {
		entered <- true
		return <-decide
	}}
	listen(t, server)
	for _, allow := range []bool{true, false} {
		server.ResumeAccepting()
		client := dial(t, server)
		receive(t, entered)
		server.PauseAccepting()
		dial(t, server) // waits in the backlog
		require.True(t, server.IsAccepting())
		decide <- allow
		until(t, func() bool { return !server.IsAccepting() })
		if allow {
			require.Equal(t, 1, server.PendingConnections())
			mustTake(t, server, client)
		}
		mustNotAccept(t, server)
		require.Zero(t, server.PendingConnections())
	}
}

func TestNewConnectionHandlerIsCalledOncePerConnection(t *testing.T) {
	t.Parallel()
	const burst = 200
	for name, c := range map[string]struct{ limit, takes int }{
		"takes none": {burst, 0},
		"takes one":  {30, 1},
		"takes all":  {30, burst},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var calls, taken, empty atomic.Int64
			server := &tcpserver.TcpServer{NewConnectionHandler: func(server *tcpserver.TcpServer) {
				calls.Add(1)
				for range c.takes {
					socket := server.NextPendingConnection()
					if socket == nil {
						empty.Add(1)
						return
					}
					taken.Add(1)
					socket.Close()
				}
			}}
			server.SetMaxPendingConnections(c.limit)
			listen(t, server)
			var clients sync.WaitGroup
			for range 4 {
				clients.Go(func() {
					for range burst / 4 {
						conn, err := net.Dial("tcp", server.Addr().String())
						if err == nil {
							t.Cleanup(func() { conn.Close() })
						}
					}
				})
			}
			clients.Wait()
			until(t, func() bool { return calls.Load() >= burst })
			time.Sleep(quiet)
			require.EqualValues(t, burst, calls.Load())
			require.EqualValues(t, burst, server.Stats().Accepted)
			switch c.takes {
			case 0:
				require.Equal(t, burst, server.PendingConnections())
			case 1:
				require.Zero(t, empty.Load(), "the handler was called before the connection was queued")
				fallthrough
			default:
				require.EqualValues(t, burst, taken.Load())
			}
		})
	}
}

// Other connections are accepted while the handler blocks, although it is not called for them until it returns.
func TestBlockingNewConnectionHandlerDoesNotStopAccepting(t *testing.T) {
	t.Parallel()
	entered, unblock := make(chan bool, 10), make(chan bool)
	server := &tcpserver.TcpServer{NewConnectionHandler: func(*tcpserver.TcpServer) {
		entered <- true
		<-unblock
	}}
	server.PauseAccepting()
	listen(t, server)
	clients := dialMany(t, server, 3)
	server.ResumeAccepting()
	receive(t, entered)
	defer func() { close(unblock) }()
	mustTake(t, server, clients...)
	mustTake(t, server, dial(t, server))
	require.Empty(t, entered, "the handler was called while another call was running")
}

// Some systems queue one connection more than the backlog; further clients wait.
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

	// A backlog of 0 stands for the system's maximum.
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
	writeString(t, conn, "hello")
	mustRead(t, conn, "hello")
	require.True(t, server.IsListening())
}
