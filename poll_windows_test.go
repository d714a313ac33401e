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

// afdPollSize, the size that AFD is given, must be the size of the structure on every architecture.
var _ = [1]struct{}{}[unsafe.Offsetof(op{}.key)-unsafe.Offsetof(op{}.poll)-afdPollSize]

// openSelector returns an open selector and a listening socket that is registered with it under key.
func openSelector(t *testing.T) (s *selector, fd sys.FD, key slotKey) {
	t.Helper()
	s, key = new(selector), slotKey{slot: 40, gen: 7}
	require.NoError(t, s.open())
	fd, _, err := sys.Bind(sys.AddrFromIP(net.IPv4(127, 0, 0, 1), 0, ""), false, false)
	require.NoError(t, err)
	require.NoError(t, sys.Listen(fd, 0))
	require.NoError(t, s.add(fd, key))
	return s, fd, key
}

// next waits for an event of key and returns it.
func (s *selector) next(key slotKey) events {
	for {
		for i := range s.wait() {
			if at, ev := s.event(i); at == key {
				return ev
			}
		}
	}
}

func TestFailedPollCountsAsReady(t *testing.T) {
	s, fd, key := openSelector(t)
	sys.Close(fd)
	s.rearm(key, evWrite)
	require.Equal(t, evWrite, s.next(key))
	s.close()
	require.Zero(t, s.pending)
}

func TestSelectorCloseEndsPendingPolls(t *testing.T) {
	s, fd, key := openSelector(t)
	for _, ev := range []events{evRead, evWrite, evError, evRead} {
		s.rearm(key, ev)
	}
	require.Equal(t, 3, s.pending, "there must be one poll per kind of event")
	s.close()
	require.Zero(t, s.pending)
	sys.Close(fd)
}

func TestRemovedSocketIsNotReported(t *testing.T) {
	s, fd, key := openSelector(t)
	// A duplicate keeps the socket open.
	other, err := sys.Dup(fd)
	require.NoError(t, err)
	s.remove(fd, key)
	sys.Close(fd)
	s.rearm(key, evRead)
	for s.pending > 0 {
		for i := range s.wait() {
			at, _ := s.event(i)
			require.Equal(t, wakeKey, at)
		}
	}
	s.close()
	sys.Close(other)
}

func TestErrorsMatchSyscallAndWindowsNames(t *testing.T) {
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
