package tcpserver_test

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
)

func TestSocketOptionsCanBeSetWhileConnected(t *testing.T) {
	t.Parallel()
	socket, _ := pair(t)
	for range 2 { // the second time after CloseWrite
		require.NoError(t, socket.SetNoDelay(false))
		require.NoError(t, socket.SetNoDelay(true))
		require.NoError(t, socket.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: time.Minute}))
		require.NoError(t, socket.SetKeepAliveConfig(net.KeepAliveConfig{}))
		require.NoError(t, socket.SetLinger(1))
		require.NoError(t, socket.SetLinger(-1))
		require.NoError(t, socket.SetReadBuffer(64<<10))
		require.NoError(t, socket.SetWriteBuffer(64<<10))
		require.NoError(t, socket.CloseWrite())
	}
}

func TestCloseDoesNotBlockWithLinger(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	require.NoError(t, conn.SetReadBuffer(64<<10))
	require.NoError(t, socket.SetWriteBuffer(4*mib))
	require.NoError(t, socket.SetLinger(3))
	sent := randomBytes(1, mib)
	require.NoError(t, socket.Send(sent))
	// The system holds all bytes but cannot send them, so that close(2) would block.
	require.Zero(t, socket.BytesToWrite())
	atOnce(t, socket.Close)
	require.Equal(t, tcpserver.StateUnconnected, socket.State())
	mustReadExactly(t, conn, sent)

	// Close does not block either while bytes are in the send queue.
	socket, conn = pair(t)
	require.NoError(t, socket.SetLinger(3))
	sent = fillSendQueue(t, socket, conn)
	atOnce(t, socket.Close)
	mustReadExactly(t, conn, sent)
}

func TestSetLingerZeroMakesCloseReset(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	require.NoError(t, socket.SetLinger(0))
	require.NoError(t, socket.Close())
	_, err := readToEnd(t, conn)
	mustBeReset(t, err)

	socket, conn = pair(t)
	require.NoError(t, socket.SetLinger(0))
	require.NoError(t, socket.SetLinger(-1))
	require.NoError(t, socket.Send([]byte("x")))
	require.NoError(t, socket.Close())
	mustReadExactly(t, conn, []byte("x"))
}
