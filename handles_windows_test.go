package tcpserver_test

import (
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/windows"

	"github.com/pullaccept/tcpserver"
)

var procGetProcessHandleCount = windows.NewLazySystemDLL("kernel32.dll").NewProc("GetProcessHandleCount")

func openHandles(t *testing.T) int {
	t.Helper()
	var n uint32
	ok, _, err := procGetProcessHandleCount.Call(uintptr(windows.CurrentProcess()), uintptr(unsafe.Pointer(&n)))
	require.NotZero(t, ok, err)
	return int(n)
}

// Not parallel: it counts the handles of the process, of which the runtime's threads have some too.
func TestConnectionsLeaveNoHandles(t *testing.T) {
	server := listen(t, &tcpserver.TcpServer{NewConnectionHandler: echo})
	serve := func(connections int) {
		for range connections {
			conn := dial(t, server)
			echoes(t, conn)
			require.NoError(t, conn.Close())
		}
		until(t, func() bool { return server.ConnectionCount() == 0 })
	}
	serve(100)
	before := openHandles(t)
	serve(500)
	require.Eventually(t, func() bool { return openHandles(t) < before+100 }, patience, 10*time.Millisecond)
}
