//go:build linux || darwin || dragonfly || freebsd || netbsd || openbsd || windows

package tcpserver_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
)

// rawConn returns the socket's syscall.RawConn.
func rawConn(t testing.TB, socket *tcpserver.TcpSocket) syscall.RawConn {
	t.Helper()
	raw, err := socket.SyscallConn()
	require.NoError(t, err)
	return raw
}

// sockopt returns an option of the socket that the system holds.
func sockopt(t testing.TB, socket *tcpserver.TcpSocket, level, option int) (value int) {
	t.Helper()
	var err error
	require.NoError(t, rawConn(t, socket).Control(func(fd uintptr) {
		value, err = systemGetInt(fd, level, option)
	}))
	require.NoError(t, err)
	return value
}

func TestNoDelayIsOnByDefault(t *testing.T) {
	t.Parallel()
	socket, _ := pair(t)
	noDelay := func() bool { return sockopt(t, socket, syscall.IPPROTO_TCP, syscall.TCP_NODELAY) != 0 }
	require.True(t, noDelay())
	require.NoError(t, socket.SetNoDelay(false))
	require.False(t, noDelay())
	require.NoError(t, socket.SetNoDelay(true))
	require.True(t, noDelay())
}

func TestServerKeepAliveAppliesToSockets(t *testing.T) {
	t.Parallel()
	keepsAlive := func(config net.KeepAliveConfig) bool {
		socket, _ := connect(t, listen(t, &tcpserver.TcpServer{KeepAlive: config}))
		return sockopt(t, socket, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE) != 0
	}
	require.False(t, keepsAlive(net.KeepAliveConfig{}), "keep-alive must be off by default")
	require.True(t, keepsAlive(net.KeepAliveConfig{Enable: true}))
}

func TestSocketsOfAdoptedListenerGetServerOptions(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	server := tcpserver.TcpServer{KeepAlive: net.KeepAliveConfig{Enable: true}}
	require.NoError(t, server.ListenOn(l))
	t.Cleanup(func() { server.Close() })
	socket, _ := connect(t, &server)
	require.NotZero(t, sockopt(t, socket, syscall.IPPROTO_TCP, syscall.TCP_NODELAY))
	require.NotZero(t, sockopt(t, socket, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE))
}

// rawRead waits until the descriptor is readable and reads into p.
func rawRead(raw syscall.RawConn, p []byte) (n int, err error) {
	waited := raw.Read(func(fd uintptr) bool {
		n, err = systemRead(fd, p)
		return err != errWouldBlock
	})
	if waited != nil {
		return 0, waited
	}
	return n, err
}

func TestRawConnReadWaitsForData(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	raw := rawConn(t, socket)
	p := make([]byte, 5)
	for range 3 {
		reading := mustBlock(t, func() error {
			_, err := rawRead(raw, p)
			return err
		})
		_, err := conn.Write([]byte("hello, world"))
		require.NoError(t, err)
		require.NoError(t, receive(t, reading))
		require.Equal(t, "hello", string(p))
		// Read finds the bytes that the raw read left.
		rest := make([]byte, 7)
		n, err := socket.Read(rest)
		require.NoError(t, err)
		require.Equal(t, ", world", string(rest[:n]))
	}
	reading := mustBlock(t, func() error {
		if n, err := rawRead(raw, p); n != 0 || err != nil {
			return fmt.Errorf("%d bytes: %w", n, err)
		}
		return nil
	})
	require.NoError(t, conn.CloseWrite())
	require.NoError(t, receive(t, reading), "the end of the stream")
}

// rawWrite writes p and waits until the descriptor is writable where it must.
func rawWrite(raw syscall.RawConn, p []byte) (err error) {
	for len(p) > 0 && err == nil {
		waited := raw.Write(func(fd uintptr) bool {
			var n int
			if n, err = systemWrite(fd, p); n > 0 {
				p = p[n:]
			}
			return err != errWouldBlock
		})
		if waited != nil {
			return waited
		}
	}
	return err
}

func TestRawConnWriteWaitsForBufferSpace(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	require.NoError(t, conn.SetReadBuffer(128<<10))
	require.NoError(t, socket.SetWriteBuffer(128<<10))
	want := randomBytes(1, 4*mib)
	writing := mustBlock(t, func() error {
		if err := rawWrite(rawConn(t, socket), want); err != nil {
			return err
		}
		return socket.CloseWrite()
	})
	mustReadExactly(t, conn, want)
	require.NoError(t, receive(t, writing))
}

// A raw write that waits for space must be woken even if the socket itself has nothing more to send.
func TestRawConnWriteIsWokenAfterQueueIsSentOrClosed(t *testing.T) {
	t.Parallel()
	for name, queue := range map[string]bool{"CloseWrite": false, "send queue": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			socket, conn := pair(t)
			require.NoError(t, conn.SetReadBuffer(128<<10))
			require.NoError(t, socket.SetWriteBuffer(128<<10))
			if queue {
				fillSendQueue(t, socket, conn)
			}
			writing := mustBlock(t, func() error { return rawWrite(rawConn(t, socket), make([]byte, 10*mib)) })
			if !queue {
				require.NoError(t, socket.CloseWrite())
			}
			go io.Copy(io.Discard, conn)
			if err := receive(t, writing); err != nil {
				require.ErrorIs(t, err, errShut, "after CloseWrite")
			}
		})
	}
}

func TestRawConnCallsReturnOnDeadlineOrClose(t *testing.T) {
	t.Parallel()
	notYet := func(uintptr) bool { return false }
	calls := map[string]func(raw syscall.RawConn) error{
		"Read":  func(raw syscall.RawConn) error { return raw.Read(notYet) },
		"Write": func(raw syscall.RawConn) error { return raw.Write(notYet) },
	}
	for _, test := range []struct {
		name string
		jam  bool // the send queue is full and the peer does not read
		end  func(socket *tcpserver.TcpSocket)
		want error
	}{
		{"deadline", false, func(s *tcpserver.TcpSocket) { s.SetDeadline(time.Now().Add(10 * time.Millisecond)) },
			os.ErrDeadlineExceeded},
		{"Close", false, func(s *tcpserver.TcpSocket) { s.Close() }, tcpserver.ErrSocketClosed},
		{"Close with a full send queue", true, func(s *tcpserver.TcpSocket) { s.Close() }, tcpserver.ErrSocketClosed},
		{"Abort", false, func(s *tcpserver.TcpSocket) { s.Abort() }, tcpserver.ErrSocketClosed},
		{"idle timeout", false, func(s *tcpserver.TcpSocket) { s.SetIdleTimeout(100 * time.Millisecond) },
			tcpserver.ErrSocketClosed},
	} {
		for name, call := range calls {
			t.Run(name+" "+test.name, func(t *testing.T) {
				t.Parallel()
				socket, conn := connect(t, listen(t, &tcpserver.TcpServer{CloseTimeout: -1}))
				t.Cleanup(func() { socket.Abort() })
				if test.jam {
					fillSendQueue(t, socket, conn)
				}
				raw := rawConn(t, socket)
				waiting := mustBlock(t, func() error { return call(raw) })
				test.end(socket)
				require.ErrorIs(t, receive(t, waiting), test.want)
			})
		}
	}
}

// The descriptor is not closed while the function passed to Control runs.
func TestRawConnControlKeepsDescriptorOpen(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	raw := rawConn(t, socket)
	inside, unblock := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- raw.Control(func(fd uintptr) {
			close(inside)
			<-unblock
			_, err := systemWrite(fd, []byte("still open"))
			if err != nil {
				t.Error(err)
			}
		})
	}()
	receive(t, inside)
	atOnce(t, socket.Close)
	require.NoError(t, socket.WaitForDisconnected(context.Background()))
	close(unblock)
	require.NoError(t, receive(t, done))
	mustReadExactly(t, conn, []byte("still open"))
}
