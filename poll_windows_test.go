package tcpserver

import (
	"io/fs"
	"net"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/windows"

	"github.com/pullaccept/tcpserver/internal/sys"
)

// What AFD is told the size of is that large, on each architecture.
var _ = [1]struct{}{}[unsafe.Offsetof(op{}.key)-unsafe.Offsetof(op{}.poll)-afdPollSize]

// openKernel returns a kernel, and a socket of which it has key.
func openKernel(t *testing.T) (k *kernel, fd sys.FD, key slotKey) {
	t.Helper()
	k, key = new(kernel), slotKey{slot: 40, gen: 7}
	require.NoError(t, k.open())
	fd, _, err := sys.Bind(sys.AddrFromIP(net.IPv4(127, 0, 0, 1), 0, ""), false, false)
	require.NoError(t, err)
	require.NoError(t, sys.Listen(fd, 0))
	require.NoError(t, k.add(fd, key))
	return k, fd, key
}

// next waits for an event of key.
func (k *kernel) next(key slotKey) events {
	for {
		for i := range k.wait() {
			if at, ev := k.event(i); at == key {
				return ev
			}
		}
	}
}

func TestPollThatIsRefusedCountsAsReady(t *testing.T) {
	k, fd, key := openKernel(t)
	sys.Close(fd)
	k.expect(key, evWrite)
	require.Equal(t, evWrite, k.next(key))
	k.close()
	require.Zero(t, k.pending)
}

func TestKernelClosesWithPollsUnderWay(t *testing.T) {
	k, fd, key := openKernel(t)
	for _, ev := range []events{evRead, evWrite, evError, evRead} {
		k.expect(key, ev)
	}
	require.Equal(t, 3, k.pending, "one each")
	k.close()
	require.Zero(t, k.pending)
	sys.Close(fd)
}

func TestRemovedSocketIsReportedNoMore(t *testing.T) {
	k, fd, key := openKernel(t)
	// Somebody else holds the socket open.
	other, err := sys.Dup(fd)
	require.NoError(t, err)
	k.remove(fd, key)
	sys.Close(fd)
	k.expect(key, evRead)
	for k.pending > 0 {
		for i := range k.wait() {
			at, _ := k.event(i)
			require.Equal(t, wakeKey, at)
		}
	}
	k.close()
	sys.Close(other)
}

func TestErrorsAreFoundUnderBothNames(t *testing.T) {
	err := sys.SyscallError("bind", windows.WSAEADDRINUSE)
	require.ErrorIs(t, err, windows.WSAEADDRINUSE)
	require.ErrorIs(t, err, syscall.Errno(10048))
	for wsa, posix := range map[error]error{
		windows.WSAEACCES:        fs.ErrPermission,
		windows.WSAECONNRESET:    syscall.ECONNRESET,
		windows.WSAEADDRNOTAVAIL: syscall.EADDRNOTAVAIL,
	} {
		require.ErrorIs(t, sys.SyscallError("call", wsa), posix)
	}
	require.NotErrorIs(t, sys.SyscallError("call", windows.WSAEFAULT), syscall.Errno(0))
}
