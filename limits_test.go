package tcpserver_test

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
)

// mustBeClosed waits until the server has closed conn, with an end of stream or a reset.
func mustBeClosed(t testing.TB, conn net.Conn) {
	t.Helper()
	_, err := conn.Read(make([]byte, 1))
	require.Error(t, err)
	var timeout net.Error
	require.NotErrorAs(t, err, &timeout)
}

// recordDrops sets DropHandler and returns a channel that receives its drops.
func recordDrops(server *tcpserver.TcpServer) <-chan tcpserver.Drop {
	drops := make(chan tcpserver.Drop, 1000)
	server.DropHandler = func(_ *tcpserver.TcpServer, drop tcpserver.Drop) { drops <- drop }
	return drops
}

func TestMaxConnectionsCountsPendingAndTaken(t *testing.T) {
	server := new(tcpserver.TcpServer)
	drops := recordDrops(server)
	assert.Zero(t, server.MaxConnections(), "by default there must be no limit")
	server.SetMaxConnections(2)
	assert.Equal(t, 2, server.MaxConnections())
	listen(t, server)
	taken, _ := connect(t, server)
	dial(t, server)
	require.NoError(t, server.WaitForNewConnection(within(t)))

	third := dial(t, server)
	drop := receive(t, drops)
	assert.Equal(t, tcpserver.DropMaxConnections, drop.Reason)
	assert.Equal(t, third.LocalAddr().String(), drop.Remote.String())
	assert.Equal(t, third.RemoteAddr().String(), drop.Local.String())
	_, err := third.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	assert.Equal(t, 2, server.ConnectionCount())
	assert.Equal(t, tcpserver.ServerStats{Accepted: 2, Dropped: 1, Pending: 1, Open: 2}, server.Stats())

	require.NoError(t, taken.Close())
	take(t, server)
	connect(t, server) // there is room again
	server.SetMaxConnections(-1)
	assert.Zero(t, server.MaxConnections())
	connect(t, server)
}

func TestSetMaxConnectionsClosesNoExistingConnection(t *testing.T) {
	server := listen(t, new(tcpserver.TcpServer))
	socket, _ := connect(t, server)
	connect(t, server)
	server.SetMaxConnections(1)
	mustBeClosed(t, dial(t, server))
	assert.Equal(t, tcpserver.StateConnected, socket.State())
	assert.Equal(t, 2, server.ConnectionCount())
}

func TestOverflowDropClosesConnectionsWhenQueueIsFull(t *testing.T) {
	server := &tcpserver.TcpServer{Overflow: tcpserver.OverflowDrop}
	drops := recordDrops(server)
	server.SetMaxPendingConnections(1)
	listen(t, server)
	dial(t, server)
	require.NoError(t, server.WaitForNewConnection(within(t)))
	assert.False(t, server.IsAccepting(), "the queue is full")
	second := dial(t, server)
	drop := receive(t, drops)
	assert.Equal(t, tcpserver.DropQueueFull, drop.Reason)
	assert.Equal(t, second.LocalAddr().String(), drop.Remote.String())
	mustBeClosed(t, second)
	take(t, server)
	assert.True(t, server.IsAccepting())
	connect(t, server)

	server.SetMaxPendingConnections(0)
	mustBeClosed(t, dial(t, server))
	assert.EqualValues(t, 2, server.Stats().Dropped)
}

func TestPausedServerDropsNothing(t *testing.T) {
	server := &tcpserver.TcpServer{Overflow: tcpserver.OverflowDrop}
	server.SetMaxPendingConnections(0)
	server.PauseAccepting()
	drops := recordDrops(server)
	listen(t, server)
	conn := dial(t, server)
	server.SetMaxPendingConnections(1)
	server.ResumeAccepting()
	assert.Equal(t, conn.LocalAddr().String(), take(t, server).RemoteAddr().String())
	assert.Empty(t, drops)
}

func TestFilterRejectsConnections(t *testing.T) {
	asked := make(chan netip.AddrPort, 10)
	var allow atomic.Bool
	server := &tcpserver.TcpServer{Filter: func(remote netip.AddrPort) bool {
		asked <- remote
		return allow.Load()
	}}
	drops := recordDrops(server)
	// A server of both families gets the addresses of IPv4 peers in their IPv6-mapped form.
	require.NoError(t, server.Listen("tcp", ":0"))
	t.Cleanup(func() { server.Close() })
	addr := fmt.Sprintf("127.0.0.1:%d", server.Port())
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer conn.Close()
	remote := receive(t, asked)
	assert.Equal(t, conn.LocalAddr().String(), remote.String())
	assert.True(t, remote.Addr().Is4(), "a filter's rule for IPv4 must match")
	drop := receive(t, drops)
	assert.Equal(t, tcpserver.DropFiltered, drop.Reason)
	assert.Equal(t, conn.LocalAddr().String(), drop.Remote.String())
	assert.Equal(t, addr, drop.Local.String())
	mustBeClosed(t, conn)
	assert.Zero(t, server.ConnectionCount())

	allow.Store(true)
	second, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer second.Close()
	take(t, server)
	receive(t, asked)

	server.SetMaxConnections(1)
	third, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer third.Close()
	assert.Equal(t, tcpserver.DropMaxConnections, receive(t, drops).Reason)
	assert.Empty(t, asked, "MaxConnections must be checked before Filter")
}

func TestFilterThatPanicsOrExitsRejectsConnection(t *testing.T) {
	for name, fail := range map[string]func(){"panic": func() { panic("no") }, "Goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			var failed atomic.Bool
			logged := make(logLines, 10)
			server := &tcpserver.TcpServer{
				Filter: func(netip.AddrPort) bool {
					if !failed.Swap(true) {
						fail()
					}
					return true
				},
				Logger: slog.New(slog.NewTextHandler(logged, nil)),
			}
			drops := recordDrops(server)
			listen(t, server)
			mustBeClosed(t, dial(t, server))
			assert.Contains(t, receive(t, logged), "filter failed")
			assert.Equal(t, tcpserver.DropFiltered, receive(t, drops).Reason)
			connect(t, server) // the server goes on accepting
			assert.Equal(t, 1, server.ConnectionCount())
		})
	}
}

func TestEveryDropIsCountedAndHandlerCallsAreBounded(t *testing.T) {
	const all = 200
	var called atomic.Int64
	release := make(chan struct{})
	server := &tcpserver.TcpServer{
		Overflow:    tcpserver.OverflowDrop,
		DropHandler: func(*tcpserver.TcpServer, tcpserver.Drop) { called.Add(1); <-release },
	}
	server.SetMaxPendingConnections(0)
	listen(t, server)
	for range all {
		mustBeClosed(t, dial(t, server))
	}
	assert.EqualValues(t, all, server.Stats().Dropped)
	close(release)
	done := make(chan struct{})
	server.NextPendingConnectionAsync(func(*tcpserver.TcpServer, *tcpserver.TcpSocket) { close(done) })
	receive(t, done)
	require.NoError(t, server.Close())
	assert.LessOrEqual(t, called.Load(), int64(100))
	assert.Positive(t, called.Load())
}

func TestDropReasonString(t *testing.T) {
	assert.Equal(t, "QueueFull MaxConnections Filtered invalid", fmt.Sprint(tcpserver.DropQueueFull,
		tcpserver.DropMaxConnections, tcpserver.DropFiltered, tcpserver.DropReason(9)))
}

func TestDropHandlerRunsOnExecutor(t *testing.T) {
	var queue tcpserver.Queue
	server := &tcpserver.TcpServer{Overflow: tcpserver.OverflowDrop, Executor: queue.Post}
	drops := recordDrops(server)
	server.SetMaxPendingConnections(0)
	listen(t, server)
	mustBeClosed(t, dial(t, server))
	assert.Empty(t, drops)
	ctx := within(t)
	for len(drops) == 0 && ctx.Err() == nil {
		queue.RunPending()
		runtime.Gosched()
	}
	assert.Len(t, drops, 1)
}

// The race detector sees whether the server counts those that Filter keeps out under its lock, if somebody looks while
// Filter decides.
func TestServerCanBeLookedAtWhileFilterKeepsOut(t *testing.T) {
	t.Parallel()
	server := listen(t, &tcpserver.TcpServer{Filter: func(netip.AddrPort) bool {
		time.Sleep(time.Millisecond)
		return false
	}})
	const clients = 20
	looked := make(chan struct{})
	go func() {
		defer close(looked)
		for server.Stats().Dropped < clients {
			_, _ = server.ConnectionCount(), server.PendingConnections()
		}
	}()
	for range clients {
		mustBeClosed(t, dial(t, server))
	}
	receive(t, looked)
	require.Zero(t, server.ConnectionCount())
}
