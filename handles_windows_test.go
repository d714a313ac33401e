package tcpserver_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/servertest"
)

// This test is not parallel: it counts the handles of the whole process. The runtime's threads have some too.
func TestConnectionsLeaveNoHandles(t *testing.T) {
	server := listen(t, &tcpserver.TcpServer{NewConnectionHandler: serveEcho})
	serve := func(connections int) {
		for range connections {
			conn := dial(t, server)
			mustEcho(t, conn)
			require.NoError(t, conn.Close())
		}
		until(t, func() bool { return server.ConnectionCount() == 0 })
	}
	serve(100)
	before := servertest.OpenHandles(t)
	serve(500)
	require.Eventually(t, func() bool { return servertest.OpenHandles(t) < before+100 }, patience, 10*time.Millisecond)
}
