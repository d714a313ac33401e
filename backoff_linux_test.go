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

// cpuTime returns how much processor time the process has used.
func cpuTime(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// cpuTimeDuring returns how much processor time the process uses while the test sleeps.
func cpuTimeDuring(t testing.TB, sleep time.Duration) time.Duration {
	t.Helper()
	before := cpuTime(t)
	time.Sleep(sleep)
	return cpuTime(t) - before
}

// alone runs the test again in a separate process, because it changes the process in ways that would disturb other
// tests. It returns true in that process, and false in the first one when the other has passed.
func alone(t *testing.T) bool { return again(t, func(*exec.Cmd) {}) }

// again is like alone, with a process that prepare may change before it starts.
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

// exhaust leaves the process without a free descriptor. free releases at least n descriptors that nothing else uses,
// and may be called repeatedly; lift restores the limit.
func exhaust(t *testing.T, n int) (free, lift func()) {
	t.Helper()
	var old syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old))
	lift = func() { require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old)) }
	// The limit is above every open descriptor, so that each one that is closed becomes free.
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

// awaitAcceptRound waits until the server has finished its round of accepting: a callback runs on the same loop after
// it.
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
	// AcceptErrorHandler is called once in each of two shortages.
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
			// The better of two seconds counts: most attempts fall into the first, but a busy machine adds time of its
			// own.
			first, second := cpuTimeDuring(t, time.Second), cpuTimeDuring(t, time.Second)
			require.Less(t, min(first, second), 10*time.Millisecond, "%v and %v", first, second)
			require.Less(t, server.Stats().AcceptErrors, uint64(15))
		}
		require.True(t, server.IsListening())
		require.Zero(t, server.PendingConnections())
		until(t, func() bool { return !server.IsAccepting() })
		require.ErrorIs(t, server.Err(), syscall.EMFILE)
		require.NotZero(t, server.Stats().AcceptErrors)

		// The server is not notified that descriptors are free again. It tries at least once a second; the rest allows
		// for a busy machine.
		free()
		began := time.Now()
		untilPending(t, server, len(clients))
		require.Less(t, time.Since(began), 3*time.Second)
		until(t, server.IsAccepting)
		require.Empty(t, failed, "AcceptErrorHandler was called more than once in one shortage")
		lift()
		mustTake(t, server, clients...)
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

	// Each socket that ends lets the server accept one connection at once. With its timer alone the server would need
	// half a second on average for each, and a second from the eighth attempt on.
	began := time.Now()
	for i, socket := range sockets {
		require.NoError(t, socket.Close())
		mustTake(t, server, clients[i])
	}
	require.Less(t, time.Since(began), 4*time.Second)
	require.True(t, server.IsListening())
	require.Empty(t, failed, "AcceptErrorHandler was called more than once in one shortage")

	// No connection is waiting any more. The shortage has ended, and AcceptErrorHandler is called for the next one.
	lift()
	mustTake(t, server, dial(t, server))
	awaitAcceptRound(t, server)
	require.True(t, server.IsAccepting())
	server.PauseAccepting()
	dial(t, server)
	exhaust(t, 1)
	server.ResumeAccepting()
	require.ErrorIs(t, receive(t, failed), syscall.EMFILE)
}

// Not parallel: it measures the processor time of all threads.
func TestWaitingServerDoesNotSpin(t *testing.T) {
	const duration = 300 * time.Millisecond
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
			ctx, cancel := context.WithTimeout(context.Background(), duration)
			defer cancel()
			before := cpuTime(t)
			require.Equal(t, context.DeadlineExceeded, server.WaitForNewConnection(ctx))
			require.Less(t, cpuTime(t)-before, duration/3)
		})
	}
	t.Run("FilterBlocksAndMoreArrive", func(t *testing.T) {
		asked, release := make(chan struct{}, 10), make(chan struct{})
		server := listen(t, &tcpserver.TcpServer{Filter: func(netip.AddrPort) bool {
			asked <- struct{}{}
			<-release
			return true
		}})
		dial(t, server)
		receive(t, asked)
		dialMany(t, server, 3)
		require.Less(t, cpuTimeDuring(t, duration), duration/3)
		close(release)
		untilPending(t, server, 4)
	})
	t.Run("FullAndMoreArrive", func(t *testing.T) {
		server := listen(t, new(tcpserver.TcpServer))
		server.SetMaxPendingConnections(1)
		dialMany(t, server, 3)
		untilPending(t, server, 1)
		require.Less(t, cpuTimeDuring(t, duration), duration/3)
	})
}
