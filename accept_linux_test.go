package tcpserver

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver/internal/sys"
)

// On Linux, accept on a listening socket that is shut down for reading fails with EINVAL, and would fail forever.
func TestPermanentAcceptErrorStopsServer(t *testing.T) {
	failed := make(chan error, 2)
	server := &TcpServer{AcceptErrorHandler: func(server *TcpServer, err error) {
		assert.False(t, server.IsListening())
		failed <- err
	}}
	require.NoError(t, server.Listen("tcp", "127.0.0.1:0"))
	server.mu.Lock()
	require.NoError(t, sys.CloseRead(server.cur.fd))
	server.mu.Unlock()

	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	require.ErrorIs(t, server.WaitForNewConnection(ctx), ErrServerClosed)
	select {
	case err := <-failed:
		require.ErrorIs(t, err, syscall.EINVAL)
		require.Equal(t, err, server.Err())
	case <-ctx.Done():
		require.FailNow(t, "AcceptErrorHandler was not called")
	}
	require.NoError(t, server.Listen("tcp", "127.0.0.1:0"))
	require.NoError(t, server.Close())
	assert.Empty(t, failed)
}
