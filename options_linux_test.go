package tcpserver_test

import (
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/pullaccept/tcpserver"
)

func TestSetKeepAliveConfigSetsSystemOptions(t *testing.T) {
	t.Parallel()
	socket, _ := pair(t)
	for _, test := range []struct {
		config                net.KeepAliveConfig
		on                    bool
		idle, interval, count int
	}{
		{net.KeepAliveConfig{Enable: true, Idle: 70 * time.Second, Interval: 7 * time.Second, Count: 3}, true, 70, 7, 3},
		{net.KeepAliveConfig{Enable: true, Idle: -1, Interval: -1, Count: -1}, true, 70, 7, 3}, // negative: as it was
		{net.KeepAliveConfig{Enable: true, Idle: 1100 * time.Millisecond, Interval: time.Nanosecond, Count: 1}, true, 2, 1, 1},
		{net.KeepAliveConfig{Enable: true}, true, 15, 15, 9}, // zero: the defaults of package net
		{net.KeepAliveConfig{Idle: 70 * time.Second}, false, 15, 15, 9},
	} {
		require.NoError(t, socket.SetKeepAliveConfig(test.config))
		require.Equal(t, test.on, sockopt(t, socket, unix.SOL_SOCKET, unix.SO_KEEPALIVE) != 0, test.config)
		require.Equal(t, test.idle, sockopt(t, socket, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE), test.config)
		require.Equal(t, test.interval, sockopt(t, socket, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL), test.config)
		require.Equal(t, test.count, sockopt(t, socket, unix.IPPROTO_TCP, unix.TCP_KEEPCNT), test.config)
	}
}

func TestSetReadBufferAndSetWriteBufferSetSystemOptions(t *testing.T) {
	t.Parallel()
	socket, _ := pair(t)
	for _, n := range []int{32 << 10, 64 << 10} {
		require.NoError(t, socket.SetReadBuffer(n))
		require.NoError(t, socket.SetWriteBuffer(n))
		// The kernel doubles what it is told, for its own bookkeeping (socket(7)).
		require.Equal(t, 2*n, sockopt(t, socket, unix.SOL_SOCKET, unix.SO_RCVBUF))
		require.Equal(t, 2*n, sockopt(t, socket, unix.SOL_SOCKET, unix.SO_SNDBUF))
	}
}

func TestDescriptorIsNonblockingAndCloseOnExec(t *testing.T) {
	t.Parallel()
	socket, _ := pair(t)
	require.NoError(t, rawOf(t, socket).Control(func(fd uintptr) {
		flags, err := unix.FcntlInt(fd, unix.F_GETFD, 0)
		require.NoError(t, err)
		require.NotZero(t, flags&unix.FD_CLOEXEC)
		flags, err = unix.FcntlInt(fd, unix.F_GETFL, 0)
		require.NoError(t, err)
		require.NotZero(t, flags&unix.O_NONBLOCK)
	}))
}

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

// Linux gives a connection the options that the listener had when it came: one that waited has got none of ours.
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

func TestListenOnAbstractUnixAddress(t *testing.T) {
	t.Parallel()
	name := fmt.Sprintf("@tcpserver-test-%d", os.Getpid())
	for _, address := range []string{name, "\x00" + name[1:]} {
		var server tcpserver.TcpServer
		require.NoError(t, server.Listen("unix", address))
		require.Equal(t, name, server.Addr().String())
		conn, err := net.Dial("unix", name)
		require.NoError(t, err)
		require.Equal(t, name, take(t, &server).LocalAddr().String())
		conn.Close()
		require.NoError(t, server.Close())
	}
	server := tcpserver.TcpServer{SocketMode: 0o600}
	require.ErrorIs(t, server.Listen("unix", name), tcpserver.ErrInvalidAddress, "it has no permissions")
}
