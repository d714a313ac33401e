//go:build linux

package tcpserver_test

import (
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
)

// cpuTime returns how long the process has kept a core busy.
func cpuTime(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// cpuTimeDuring returns how long the process keeps a core busy while the test sleeps.
func cpuTimeDuring(t testing.TB, sleep time.Duration) time.Duration {
	t.Helper()
	before := cpuTime(t)
	time.Sleep(sleep)
	return cpuTime(t) - before
}

// alone runs the test once more in a process of its own, because what it does to the process would disturb the other
// tests. It returns true in that process.
func alone(t *testing.T) bool { return again(t, func(*exec.Cmd) {}) }

// again is alone in a process that prepare may change.
func again(t *testing.T, prepare func(*exec.Cmd)) bool {
	t.Helper()
	const variable = "TCPSERVER_TEST_ALONE"
	if os.Getenv(variable) == t.Name() {
		return true
	}
	cmd := exec.CommandContext(within(t), os.Args[0], "-test.v", "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), variable+"="+t.Name())
	prepare(cmd)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "--- PASS: "+t.Name())
	return false
}

// exhaust leaves the process without a free descriptor. free, which may be called again, gives back n or more that
// belong to nothing else; lift lifts the limit.
func exhaust(t *testing.T, n int) (free, lift func()) {
	t.Helper()
	var old syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old))
	lift = func() { require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old)) }
	// The limit is beyond all that are open, so that each of them counts once it is closed.
	list, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	limit := old
	limit.Cur = 0
	for _, entry := range list {
		fd, err := strconv.ParseUint(entry.Name(), 10, 32)
		require.NoError(t, err)
		limit.Cur = max(limit.Cur, fd+1)
	}
	limit.Cur += uint64(n)
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
	var files []*os.File
	free = func() {
		for _, f := range files {
			f.Close()
		}
	}
	t.Cleanup(func() {
		free()
		lift()
	})
	for {
		f, err := os.Open(os.DevNull)
		if err != nil {
			require.ErrorIs(t, err, syscall.EMFILE)
			return free, lift
		}
		files = append(files, f)
	}
}

// awaitAcceptRound waits until the server has finished its round of accepting: a callback has its turn on the same loop.
func awaitAcceptRound(t *testing.T, server *tcpserver.TcpServer) {
	t.Helper()
	done := make(chan bool, 1)
	server.ConnectionCountAsync(func(*tcpserver.TcpServer, int, error) { done <- true })
	receive(t, done)
}

func TestAcceptResumesAfterDescriptorsRunOut(t *testing.T) {
	if !alone(t) {
		return
	}
	failed := make(chan error, 10)
	server := &tcpserver.TcpServer{
		AcceptErrorHandler: func(_ *tcpserver.TcpServer, err error) { failed <- err },
	}
	listen(t, server)
	// The second shortage is told of again.
	for i := range 2 {
		server.PauseAccepting()
		clients := dialMany(t, server, 6)
		free, lift := exhaust(t, 2*len(clients))
		require.Empty(t, failed)
		server.ResumeAccepting()

		err := receive(t, failed)
		require.ErrorIs(t, err, syscall.EMFILE)
		var opErr *net.OpError
		require.ErrorAs(t, err, &opErr)
		require.Equal(t, "accept", opErr.Op)

		if i == 0 {
			// The better of two seconds: the first has most of the attempts, but a busy machine adds its own.
			first, second := cpuTimeDuring(t, time.Second), cpuTimeDuring(t, time.Second)
			require.Less(t, min(first, second), 10*time.Millisecond, "%v and %v", first, second)
			require.Less(t, server.Stats().AcceptErrors, uint64(15))
		}
		require.True(t, server.IsListening())
		require.Zero(t, server.PendingConnections())
		until(t, func() bool { return !server.IsAccepting() })
		require.ErrorIs(t, server.Err(), syscall.EMFILE)
		require.NotZero(t, server.Stats().AcceptErrors)

		// Nobody tells the server that there are descriptors again. It tries once a second at least; the rest is for
		// a busy machine.
		free()
		began := time.Now()
		untilPending(t, server, len(clients))
		require.Less(t, time.Since(began), 3*time.Second)
		until(t, server.IsAccepting)
		require.Empty(t, failed, "told more than once")
		lift()
		takes(t, server, clients...)
		awaitAcceptRound(t, server)
	}
}

func TestAcceptResumesWhenSocketFreesDescriptor(t *testing.T) {
	if !alone(t) {
		return
	}
	failed := make(chan error, 10)
	server := &tcpserver.TcpServer{
		AcceptErrorHandler: func(_ *tcpserver.TcpServer, err error) { failed <- err },
	}
	listen(t, server)
	const n = 16
	var sockets []*tcpserver.TcpSocket
	for range n {
		socket, _ := connect(t, server)
		sockets = append(sockets, socket)
	}
	server.PauseAccepting()
	clients := dialMany(t, server, n)
	_, lift := exhaust(t, 1)
	server.ResumeAccepting()
	require.ErrorIs(t, receive(t, failed), syscall.EMFILE)

	// Each that ends lets one in at once. By its timer alone the server would take half a second on the average for
	// each, and a second from the eighth attempt on.
	began := time.Now()
	for i, socket := range sockets {
		require.NoError(t, socket.Close())
		takes(t, server, clients[i])
	}
	require.Less(t, time.Since(began), 4*time.Second)
	require.True(t, server.IsListening())
	require.Empty(t, failed, "one shortage, told more than once")

	// No connection is waiting any more. After the end of the shortage the next one is told of.
	lift()
	takes(t, server, dial(t, server))
	awaitAcceptRound(t, server)
	require.True(t, server.IsAccepting())
	server.PauseAccepting()
	dial(t, server)
	exhaust(t, 1)
	server.ResumeAccepting()
	require.ErrorIs(t, receive(t, failed), syscall.EMFILE)
}

// Not parallel: it measures the time of all threads.
func TestWaitingServerDoesNotSpin(t *testing.T) {
	const lasts = 300 * time.Millisecond
	for name, holdBack := range map[string]func(*tcpserver.TcpServer){
		"Paused": (*tcpserver.TcpServer).PauseAccepting,
		"Full":   func(server *tcpserver.TcpServer) { server.SetMaxPendingConnections(0) },
		"Idle":   func(*tcpserver.TcpServer) {},
	} {
		t.Run(name, func(t *testing.T) {
			server := listen(t, new(tcpserver.TcpServer))
			holdBack(server)
			if name != "Idle" {
				dialMany(t, server, 3)
			}
			ctx, cancel := context.WithTimeout(context.Background(), lasts)
			defer cancel()
			before := cpuTime(t)
			require.Equal(t, context.DeadlineExceeded, server.WaitForNewConnection(ctx))
			require.Less(t, cpuTime(t)-before, lasts/3)
		})
	}
	t.Run("FilterThinksAndMoreBehind", func(t *testing.T) {
		asked, think := make(chan struct{}, 10), make(chan struct{})
		server := listen(t, &tcpserver.TcpServer{Filter: func(netip.AddrPort) bool {
			asked <- struct{}{}
			<-think
			return true
		}})
		dial(t, server)
		receive(t, asked)
		dialMany(t, server, 3)
		require.Less(t, cpuTimeDuring(t, lasts), lasts/3)
		close(think)
		untilPending(t, server, 4)
	})
	t.Run("FullAndMoreBehind", func(t *testing.T) {
		server := listen(t, new(tcpserver.TcpServer))
		server.SetMaxPendingConnections(1)
		dialMany(t, server, 3)
		untilPending(t, server, 1)
		require.Less(t, cpuTimeDuring(t, lasts), lasts/3)
	})
}
