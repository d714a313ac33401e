package tcpserver_test

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestSetKeepAliveConfigSetsSystemOptions(t *testing.T) {
	t.Parallel()
	socket, _ := pair(t)
	for _, test := range []struct {
		config                net.KeepAliveConfig
		on                    bool
		idle, interval, count int
	}{
		{
			net.KeepAliveConfig{Enable: true, Idle: 70 * time.Second, Interval: 7 * time.Second, Count: 3},
			true, 70, 7, 3,
		},
		{net.KeepAliveConfig{Enable: true, Idle: -1, Interval: -1, Count: -1}, true, 70, 7, 3}, // negative: unchanged
		{ // rounded up to seconds
			net.KeepAliveConfig{Enable: true, Idle: 1100 * time.Millisecond, Interval: time.Nanosecond, Count: 1},
			true, 2, 1, 1,
		},
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
		// Linux doubles the size, to have room for its bookkeeping (socket(7)).
		require.Equal(t, 2*n, sockopt(t, socket, unix.SOL_SOCKET, unix.SO_RCVBUF))
		require.Equal(t, 2*n, sockopt(t, socket, unix.SOL_SOCKET, unix.SO_SNDBUF))
	}
}

func TestDescriptorIsNonblockingAndCloseOnExec(t *testing.T) {
	t.Parallel()
	socket, _ := pair(t)
	require.NoError(t, rawConn(t, socket).Control(func(fd uintptr) {
		flags, err := unix.FcntlInt(fd, unix.F_GETFD, 0)
		require.NoError(t, err)
		require.NotZero(t, flags&unix.FD_CLOEXEC)
		flags, err = unix.FcntlInt(fd, unix.F_GETFL, 0)
		require.NoError(t, err)
		require.NotZero(t, flags&unix.O_NONBLOCK)
	}))
}
