package tcpserver_test

import (
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/pullaccept/tcpserver"
)

func TestServerKeepAliveTimesApplyToSockets(t *testing.T) {
	t.Parallel()
	config := net.KeepAliveConfig{Enable: true, Idle: 80 * time.Second, Interval: 8 * time.Second, Count: 4}
	listening := listen(t, &tcpserver.TcpServer{KeepAlive: config})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	adopted := &tcpserver.TcpServer{KeepAlive: config}
	require.NoError(t, adopted.ListenOn(l))
	t.Cleanup(func() { adopted.Close() })
	for _, server := range []*tcpserver.TcpServer{listening, adopted} {
		socket, _ := connect(t, server)
		require.Equal(t, 80, sockopt(t, socket, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE))
		require.Equal(t, 8, sockopt(t, socket, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL))
		require.Equal(t, 4, sockopt(t, socket, unix.IPPROTO_TCP, unix.TCP_KEEPCNT))
	}
}

// On Linux a connection inherits the options that the listener had when it arrived, so that a connection that was
// queued before ListenOn or ListenFile has none of the server's.
func TestConnectionsQueuedBeforeAdoptionGetServerOptions(t *testing.T) {
	t.Parallel()
	for _, adopt := range []func(*tcpserver.TcpServer, *net.TCPListener) error{
		func(server *tcpserver.TcpServer, l *net.TCPListener) error { return server.ListenOn(l) },
		func(server *tcpserver.TcpServer, l *net.TCPListener) error { return server.ListenFile(fileOf(t, l)) },
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer l.Close()
		for range 3 {
			conn, err := net.Dial("tcp", l.Addr().String())
			require.NoError(t, err)
			defer conn.Close()
		}
		server := &tcpserver.TcpServer{KeepAlive: net.KeepAliveConfig{Enable: true, Idle: 80 * time.Second}}
		require.NoError(t, adopt(server, l.(*net.TCPListener)))
		t.Cleanup(func() { server.Close() })
		dial(t, server)
		for range 4 {
			socket := take(t, server)
			require.NotZero(t, sockopt(t, socket, unix.IPPROTO_TCP, unix.TCP_NODELAY))
			require.NotZero(t, sockopt(t, socket, unix.SOL_SOCKET, unix.SO_KEEPALIVE))
			require.Equal(t, 80, sockopt(t, socket, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE))
		}
	}
}

func TestFailedListenFileChangesNoOption(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	f := fileOf(t, l.(*net.TCPListener))
	require.NoError(t, systemBlock(f.Fd()))
	server := listen(t, &tcpserver.TcpServer{KeepAlive: net.KeepAliveConfig{Enable: true}})
	require.ErrorIs(t, server.ListenFile(f), tcpserver.ErrAlreadyListening)
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	require.NoError(t, err)
	require.Zero(t, flags&unix.O_NONBLOCK)
	alive, err := systemGetInt(f.Fd(), unix.SOL_SOCKET, unix.SO_KEEPALIVE)
	require.NoError(t, err)
	require.Zero(t, alive)
}

// The first inherited descriptor is 3, as with systemd's socket activation.
func TestListenFileServesInheritedDescriptor(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	require.NoError(t, err)
	defer f.Close()
	child := again(t, func(cmd *exec.Cmd) {
		cmd.ExtraFiles = []*os.File{f}
		cmd.Env = append(cmd.Env, "TCPSERVER_TEST_ADDR="+l.Addr().String())
	})
	if !child {
		return
	}
	inherited := os.NewFile(3, "inherited")
	var server tcpserver.TcpServer
	require.NoError(t, server.ListenFile(inherited))
	t.Cleanup(func() { server.Close() })
	require.NoError(t, inherited.Close())
	require.Equal(t, os.Getenv("TCPSERVER_TEST_ADDR"), server.Addr().String())
	connect(t, &server)
}

// A listener that already listens keeps the length of its queue unless TcpServer.Backlog is set.
func TestAdoptedListenerKeepsItsBacklog(t *testing.T) {
	t.Parallel()
	for backlog, want := range map[int]uint32{0: 5, 7: 7} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer listener.Close()
		l, err := listener.(*net.TCPListener).SyscallConn()
		require.NoError(t, err)
		require.NoError(t, l.Control(func(fd uintptr) { require.NoError(t, unix.Listen(int(fd), 5)) }))
		server := &tcpserver.TcpServer{Backlog: backlog}
		require.NoError(t, server.ListenOn(listener))
		t.Cleanup(func() { server.Close() })
		require.NoError(t, l.Control(func(fd uintptr) {
			info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
			require.NoError(t, err)
			require.Equal(t, want, info.Sacked, "which is the backlog of a socket that listens")
		}))
	}
}

func TestListenFileRejectsUnboundSocket(t *testing.T) {
	t.Parallel()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	require.NoError(t, err)
	file := os.NewFile(uintptr(fd), "")
	defer file.Close()
	var server tcpserver.TcpServer
	require.ErrorIs(t, server.ListenFile(file), tcpserver.ErrNotBound)
}
