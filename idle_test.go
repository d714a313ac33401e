package tcpserver_test

import (
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
)

func TestIdleTimeoutEndsConnection(t *testing.T) {
	t.Parallel()
	const limit = 300 * time.Millisecond
	socket, conn := pair(t)
	start := time.Now()
	socket.SetIdleTimeout(limit)
	reading := mustBlock(t, readByte(socket))
	mustEnd(t, socket, tcpserver.ErrIdleTimeout)
	require.GreaterOrEqual(t, time.Since(start), limit, "the timeout must not expire early")
	err := receive(t, reading)
	require.ErrorIs(t, err, tcpserver.ErrIdleTimeout)
	var opErr *net.OpError
	require.True(t, errors.As(err, &opErr))
	require.ErrorIs(t, socket.Send([]byte("x")), tcpserver.ErrIdleTimeout)
	require.ErrorIs(t, socket.WaitForReadyRead(within(t)), tcpserver.ErrIdleTimeout)
	mustReadExactly(t, conn, nil)
}

func TestActivityPostponesIdleTimeout(t *testing.T) {
	t.Parallel()
	const limit = time.Second
	for name, move := range map[string]func(t testing.TB, socket *tcpserver.TcpSocket, conn *net.TCPConn){
		"sending": func(t testing.TB, socket *tcpserver.TcpSocket, _ *net.TCPConn) {
			require.NoError(t, socket.Send([]byte("x")))
		},
		"receiving": func(t testing.TB, socket *tcpserver.TcpSocket, conn *net.TCPConn) {
			_, err := conn.Write([]byte("x"))
			require.NoError(t, err)
			require.NoError(t, readByte(socket)())
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			socket, conn := pair(t)
			socket.SetIdleTimeout(limit)
			// This test depends on real time: that is what it tests.
			pace := time.NewTicker(limit / 5)
			defer pace.Stop()
			last := time.Now()
			for range 8 {
				<-pace.C
				last = time.Now()
				move(t, socket, conn)
			}
			require.Equal(t, tcpserver.StateConnected, socket.State())
			mustEnd(t, socket, tcpserver.ErrIdleTimeout)
			require.GreaterOrEqual(t, time.Since(last), limit)
		})
	}
}

func TestSetIdleTimeoutReplacesServersIdleTimeout(t *testing.T) {
	t.Parallel()
	const limit = 150 * time.Millisecond
	server := listen(t, &tcpserver.TcpServer{IdleTimeout: limit})
	disabled, _ := connect(t, server)
	disabled.SetIdleTimeout(0)
	shortened, _ := connect(t, server)
	shortened.SetIdleTimeout(time.Hour)
	shortened.SetIdleTimeout(limit)
	inherited, _ := connect(t, server)
	mustEnd(t, inherited, tcpserver.ErrIdleTimeout)
	mustEnd(t, shortened, tcpserver.ErrIdleTimeout)
	// With the timeout of the others, this socket would have ended by now.
	mustBlock(t, func() error { return disabled.WaitForDisconnected(t.Context()) })
	require.Equal(t, tcpserver.StateConnected, disabled.State())
	disabled.SetIdleTimeout(limit)
	mustEnd(t, disabled, tcpserver.ErrIdleTimeout)
}

func TestIdleTimeoutWithQueuedBytesResetsConnection(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	sent := fillSendQueue(t, socket, conn)
	socket.SetIdleTimeout(time.Millisecond)
	mustEnd(t, socket, tcpserver.ErrIdleTimeout)
	mustReadPrefixThenReset(t, conn, sent[:len(sent)-1])
}

// A loop that reads again after each timeout must not run forever.
func TestErrorsAfterIdleTimeoutAreNotTimeouts(t *testing.T) {
	t.Parallel()
	var timeout net.Error
	require.ErrorAs(t, tcpserver.ErrIdleTimeout, &timeout)
	require.True(t, timeout.Timeout())

	socket, _ := pair(t)
	socket.SetIdleTimeout(time.Millisecond)
	mustEnd(t, socket, tcpserver.ErrIdleTimeout)
	_, readErr := socket.Read(make([]byte, 1))
	_, tryErr := socket.TryRead(make([]byte, 1))
	_, writeErr := socket.Write([]byte("x"))
	for name, err := range map[string]error{
		"Read":                readErr,
		"TryRead":             tryErr,
		"Write":               writeErr,
		"Send":                socket.Send([]byte("x")),
		"WaitForReadyRead":    socket.WaitForReadyRead(within(t)),
		"WaitForBytesWritten": socket.WaitForBytesWritten(within(t)),
	} {
		require.ErrorIs(t, err, tcpserver.ErrIdleTimeout, name)
		require.ErrorIs(t, err, net.ErrClosed, name)
		require.False(t, os.IsTimeout(err), name)
		var netErr net.Error
		require.ErrorAs(t, err, &netErr, name)
		require.False(t, netErr.Timeout(), name)
		require.False(t, strings.Contains(err.Error(), "\n"), name)
	}
}
