package soak

import (
	"flag"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/servertest"
)

var (
	connections = flag.Int("connections", 500, "number of connections of TestSoakReturnsEverything")
	soakTime    = flag.Duration("for", 2*time.Second, "how long they are used")
)

const (
	// soakServers is the number of servers. A client has about 28,000 ports for the connections to one of them, those
	// that have ended in the last minute included.
	soakServers = 4

	// maxHeapPerConnection is more than an idle connection takes: 160 bytes of socket, and a slot of 24.
	maxHeapPerConnection = 256

	// maxHeapLeft is how much more of the heap may be in use after the soak than before: what the library and the
	// runtime keep does not depend on the number of connections, and has been below 80 KB. With the 86,000 connections
	// of a whole soak, three bytes of each that were left would be noticed.
	maxHeapLeft = 256 << 10
)

// usage is what a process uses.
type usage struct {
	goroutines, files int
	heap              int64
}

func measure() usage { return usage{runtime.NumGoroutine(), servertest.OpenFiles(), heapInUse()} }

func (u usage) String() string {
	return fmt.Sprintf("%d goroutines, %d descriptors, %d KiB of heap", u.goroutines, u.files, u.heap>>10)
}

// soakServer starts an echo server.
func soakServer(t *testing.T, poller *tcpserver.Poller) *tcpserver.TcpServer {
	handlers := &tcpserver.SocketHandlers{ReadyRead: echo, BytesWritten: resume}
	return servertest.Listen(t, &tcpserver.TcpServer{
		Poller: poller,
		NewConnectionHandler: func(server *tcpserver.TcpServer) {
			if socket := server.NextPendingConnection(); socket != nil {
				socket.SetHandlers(handlers)
			}
		},
	})
}

// open returns how many connections of the servers have not ended.
func open(servers []*tcpserver.TcpServer) (n int) {
	for _, server := range servers {
		n += server.ConnectionCount()
	}
	return n
}

// Whatever clients do, and however often, the descriptors, the goroutines and the heap return to what they were.
func TestSoakReturnsEverything(t *testing.T) {
	before := measure()
	t.Log("before:", before)
	poller, err := tcpserver.NewPoller(0)
	require.NoError(t, err)
	var servers []*tcpserver.TcpServer
	role := []string{"clients", fmt.Sprint(*connections)}
	for range soakServers {
		server := soakServer(t, poller)
		servers = append(servers, server)
		role = append(role, server.Addr().String())
	}
	child := start(t, command(role...))
	idle := measure()
	t.Log("listening:", idle)

	ask := func(line string) {
		t.Helper()
		answer := child.ask(line)
		require.True(t, strings.HasPrefix(answer, "ok"), answer)
		t.Log(line+":", answer)
	}
	for _, line := range []string{"connect", fmt.Sprint("churn ", *soakTime)} {
		ask(line)
		servertest.Eventually(t, func() bool { return open(servers) == *connections })
		require.False(t, servertest.Leaked(idle.goroutines+1, idle.files+*connections), "a connection has no goroutine")
		now := measure()
		t.Log(now)
		require.LessOrEqual(t, now.heap, idle.heap+maxHeapLeft+int64(*connections)*maxHeapPerConnection)
	}
	ask("close")
	servertest.Eventually(t, func() bool { return open(servers) == 0 })
	closed := measure()
	t.Log("no connections:", closed)
	child.stop()

	for _, server := range servers {
		require.NoError(t, server.Shutdown(servertest.Context(t)))
		require.Zero(t, server.Stats().Dropped)
	}
	require.False(t, servertest.Leaked(before.goroutines, before.files))
	after := measure()
	t.Log("after:", after)
	require.LessOrEqual(t, after.heap, before.heap+maxHeapLeft)
}
