package tcpserver_test

import (
	"math/rand"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
)

func TestCloseEndsPendingConnectionsWithoutReset(t *testing.T) {
	t.Parallel()
	// There are many rounds because the bytes race with Close.
	for i := range 100 {
		server := listen(t, new(tcpserver.TcpServer))
		silent, talking := dial(t, server), dial(t, server)
		untilPending(t, server, 2)
		_, err := talking.Write([]byte("nobody reads this"))
		require.NoError(t, err)
		if i%2 == 0 {
			// Give the loop time to see the bytes first.
			time.Sleep(time.Duration(rand.Intn(300)) * time.Microsecond)
		}
		require.NoError(t, server.Close())
		require.Nil(t, server.NextPendingConnection())
		require.NoError(t, readUntilEnd(t, silent), "round %d", i)
		require.NoError(t, readUntilEnd(t, talking), "round %d", i)
	}
}

func TestCloseKeepsTakenSocketsOpen(t *testing.T) {
	t.Parallel()
	server := listen(t, new(tcpserver.TcpServer))
	socket, client := connect(t, server)
	require.NoError(t, server.Close())
	require.Equal(t, 1, server.ConnectionCount())
	require.Equal(t, tcpserver.StateConnected, socket.State())
	require.Same(t, server, socket.Server())
	roundTrip(t, client, socket)
	require.NoError(t, socket.Close())
	require.NoError(t, readUntilEnd(t, client))
	require.Zero(t, server.ConnectionCount())
}

// connectionsKeepPorts reports whether this system keeps a port in use after its listener, with the same options as the
// server's, is closed, while connections accepted there are open.
func connectionsKeepPorts(t testing.TB) bool {
	config := net.ListenConfig{Control: exclusive}
	l, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := l.Addr().String()
	near, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer near.Close()
	far, err := l.Accept()
	require.NoError(t, err)
	defer far.Close()
	require.NoError(t, l.Close())
	l, err = config.Listen(t.Context(), "tcp", addr)
	if err != nil {
		return true
	}
	l.Close()
	return false
}

func TestPortCanBeListenedOnAgainRightAfterClose(t *testing.T) {
	t.Parallel()
	if connectionsKeepPorts(t) {
		skip(t, "the system keeps the port in use while connections are open")
	}
	server := listen(t, new(tcpserver.TcpServer))
	addr := server.Addr().String()
	alive, client := connect(t, server)
	for i := range 50 {
		// The server's side closes first, so that its side enters TIME_WAIT.
		socket, _ := connect(t, server)
		require.NoError(t, socket.Close())
		dial(t, server)
		require.NoError(t, server.Close())
		if i%2 == 1 {
			server = new(tcpserver.TcpServer)
			t.Cleanup(func() { server.Close() })
		}
		require.NoError(t, server.Listen("tcp", addr))
		require.Equal(t, addr, server.Addr().String())
	}
	roundTrip(t, client, alive)
	mustTake(t, server, dial(t, server))
}

func TestServerCanBeClosedInNewConnectionHandler(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	closed := make(chan error, 10)
	server := &tcpserver.TcpServer{NewConnectionHandler: func(server *tcpserver.TcpServer) {
		calls.Add(1)
		closed <- server.Close()
	}}
	for round := range 3 {
		server.PauseAccepting()
		listen(t, server)
		clients := dialMany(t, server, 3)
		server.ResumeAccepting()
		require.NoError(t, receive(t, closed))
		require.False(t, server.IsListening())
		for _, client := range clients {
			// The system resets those that were not yet accepted.
			if err := readUntilEnd(t, client); err != nil {
				require.ErrorIs(t, err, errPeerReset)
			}
		}
		require.EqualValues(t, round+1, calls.Load(), "the handler was called after Close")
		require.Zero(t, server.ConnectionCount())
	}
}

func TestCloseCanBeCalledRepeatedlyAndConcurrently(t *testing.T) {
	t.Parallel()
	server := new(tcpserver.TcpServer)
	require.NoError(t, server.Close())
	for range 20 {
		listen(t, server)
		dialMany(t, server, 2)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() { server.Close() })
			wg.Go(func() {
				if socket := server.NextPendingConnection(); socket != nil {
					socket.Close()
				}
			})
		}
		wg.Wait()
		require.NoError(t, server.Close())
		require.False(t, server.IsListening())
		require.Nil(t, server.Addr())
		require.Zero(t, server.Port())
		require.Zero(t, server.PendingConnections())
	}
}
