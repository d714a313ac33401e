package tcpserver_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
)

func TestSentinelErrorsMatchStandardErrors(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		err     error
		matches []error
		timeout bool
	}{
		{err: tcpserver.ErrServerClosed, matches: []error{net.ErrClosed}},
		{err: tcpserver.ErrSocketClosed, matches: []error{net.ErrClosed}},
		{err: tcpserver.ErrNotListening, matches: []error{net.ErrClosed}},
		{err: tcpserver.ErrAlreadyListening},
		{err: tcpserver.ErrInvalidPort},
		{err: tcpserver.ErrInvalidAddress},
		{err: tcpserver.ErrBacklog},
		{err: tcpserver.ErrWouldBlock},
		{err: tcpserver.ErrWriteBufferFull},
		{err: tcpserver.ErrIdleTimeout, timeout: true},
		{err: tcpserver.ErrReset, matches: []error{syscall.ECONNRESET}},
		{err: tcpserver.ErrUnsupported, matches: []error{errors.ErrUnsupported}},
	} {
		require.True(t, strings.HasPrefix(test.err.Error(), "tcpserver: "), test.err)
		// Programs get these errors wrapped.
		wrapped := fmt.Errorf("serving: %w", &net.OpError{Op: "read", Net: "tcp", Err: test.err})
		require.ErrorIs(t, wrapped, test.err)
		for _, foreign := range []error{net.ErrClosed, syscall.ECONNRESET, errors.ErrUnsupported, io.EOF,
			os.ErrDeadlineExceeded, context.Canceled} {
			want := false
			for _, match := range test.matches {
				want = want || match == foreign
			}
			require.Equal(t, want, errors.Is(wrapped, foreign), "errors.Is(%v, %v)", test.err, foreign)
		}
		var netErr net.Error
		require.True(t, errors.As(wrapped, &netErr))
		require.Equal(t, test.timeout, netErr.Timeout(), test.err)
	}
	require.NotErrorIs(t, tcpserver.ErrServerClosed, tcpserver.ErrSocketClosed)
}

func TestSocketErrorsAreOpErrorsWithAddresses(t *testing.T) {
	t.Parallel()
	read := readByte
	write := func(s tcpSocket) error { _, err := s.Write([]byte("x")); return err }
	send := func(s tcpSocket) error { return s.Send([]byte("x")) }
	tryRead := func(s tcpSocket) error { _, err := s.TryRead(make([]byte, 1)); return err }
	wait := func(s tcpSocket) error { return s.WaitForReadyRead(context.Background()) }
	closed := func(t testing.TB, s tcpSocket, _ *net.TCPConn) { s.Close() }
	deadlinePassed := func(t testing.TB, s tcpSocket, _ *net.TCPConn) { s.SetDeadline(time.Now().Add(-time.Second)) }
	resetByPeer := func(t testing.TB, s tcpSocket, c *net.TCPConn) {
		reset(t, c)
		require.NoError(t, s.WaitForDisconnected(within(t)))
	}
	for _, test := range []struct {
		name    string
		prepare func(t testing.TB, s tcpSocket, c *net.TCPConn)
		call    func(s tcpSocket) error
		op      string
		want    error
	}{
		{"Read, closed", closed, func(s tcpSocket) error { return read(s)() }, "read", net.ErrClosed},
		{"Read, deadline", deadlinePassed, func(s tcpSocket) error { return read(s)() }, "read",
			os.ErrDeadlineExceeded},
		{"Read, reset", resetByPeer, func(s tcpSocket) error { return read(s)() }, "read", syscall.ECONNRESET},
		{"TryRead, closed", closed, tryRead, "read", net.ErrClosed},
		{"TryRead, reset", resetByPeer, tryRead, "read", syscall.ECONNRESET},
		{"WaitForReadyRead, closed", closed, wait, "read", net.ErrClosed},
		{"WaitForReadyRead, deadline", deadlinePassed, wait, "read", os.ErrDeadlineExceeded},
		{"WaitForReadyRead, reset", resetByPeer, wait, "read", syscall.ECONNRESET},
		{"Write, closed", closed, write, "write", net.ErrClosed},
		{"Write, deadline", deadlinePassed, write, "write", os.ErrDeadlineExceeded},
		{"Write, reset", resetByPeer, write, "write", syscall.ECONNRESET},
		{"Send, closed", closed, send, "write", net.ErrClosed},
		{"Send, reset", resetByPeer, send, "write", syscall.ECONNRESET},
		{"WaitForBytesWritten, reset", resetByPeer,
			func(s tcpSocket) error { return s.WaitForBytesWritten(context.Background()) }, "write",
			syscall.ECONNRESET},
		{"Close", closed, tcpSocket.Close, "close", net.ErrClosed},
		{"CloseWrite", closed, tcpSocket.CloseWrite, "close", net.ErrClosed},
		{"CloseRead", closed, tcpSocket.CloseRead, "close", net.ErrClosed},
		{"SetNoDelay", closed, func(s tcpSocket) error { return s.SetNoDelay(true) }, "set", net.ErrClosed},
		{"SetDeadline", closed, func(s tcpSocket) error { return s.SetDeadline(time.Time{}) }, "set", net.ErrClosed},
		{"SyscallConn", closed, func(s tcpSocket) error { _, err := s.SyscallConn(); return err }, "raw",
			net.ErrClosed},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			socket, conn := pair(t)
			test.prepare(t, socket, conn)
			err := test.call(socket)
			opErr, ok := err.(*net.OpError)
			require.True(t, ok, "%T: %v", err, err)
			require.Equal(t, test.op, opErr.Op)
			require.Equal(t, "tcp", opErr.Net)
			require.Equal(t, socket.LocalAddr(), opErr.Source)
			require.Equal(t, socket.RemoteAddr(), opErr.Addr)
			require.ErrorIs(t, err, test.want)
			require.Equal(t, test.want == os.ErrDeadlineExceeded, opErr.Timeout())
		})
	}
}

func TestCommonErrorsAreNotWrapped(t *testing.T) {
	t.Parallel()
	socket, conn := pair(t)
	_, err := socket.TryRead(make([]byte, 1))
	require.Equal(t, tcpserver.ErrWouldBlock, err)
	require.Equal(t, tcpserver.ErrWriteBufferFull, socket.Send(make([]byte, 2*mib)))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.Equal(t, context.Canceled, socket.WaitForReadyRead(ended))
	require.Equal(t, context.Canceled, socket.WaitForDisconnected(ended))
	require.NoError(t, conn.CloseWrite())
	require.Equal(t, io.EOF, readByte(socket)())
	_, err = socket.TryRead(make([]byte, 1))
	require.Equal(t, io.EOF, err)
}

func TestServerErrorsAreOpErrorsWithAddress(t *testing.T) {
	t.Parallel()
	server := listen(t, new(tcpserver.TcpServer))
	var other tcpserver.TcpServer
	err := other.Listen("tcp4", server.Addr().String())
	require.ErrorIs(t, err, syscall.EADDRINUSE)
	opErr, ok := err.(*net.OpError)
	require.True(t, ok, "%T", err)
	require.Equal(t, "listen", opErr.Op)
	require.Equal(t, "tcp4", opErr.Net)
	require.Nil(t, opErr.Source)
	require.Equal(t, server.Addr().String(), opErr.Addr.String())
	require.Equal(t, err, other.Err())
	require.Equal(t, err.Error(), other.ErrorString())

	addr := server.Addr()
	accepting := mustBlock(t, func() error { _, err := server.Accept(); return err })
	require.NoError(t, server.Close())
	err = receive(t, accepting)
	require.ErrorIs(t, err, tcpserver.ErrServerClosed)
	opErr, ok = err.(*net.OpError)
	require.True(t, ok, "%T", err)
	require.Equal(t, "accept", opErr.Op)
	require.Equal(t, "tcp", opErr.Net)
	require.Equal(t, addr, opErr.Addr)
}

func TestPanicErrorUnwrapsPanicValue(t *testing.T) {
	t.Parallel()
	err := error(&tcpserver.PanicError{Value: "boom", Stack: []byte("stack")})
	require.Equal(t, "tcpserver: handler panicked: boom", err.Error())
	require.NoError(t, errors.Unwrap(err))
	err = &tcpserver.PanicError{Value: fmt.Errorf("reading: %w", io.ErrUnexpectedEOF)}
	require.Equal(t, "tcpserver: handler panicked: reading: unexpected EOF", err.Error())
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	err = &tcpserver.PanicError{}
	require.Equal(t, "tcpserver: handler did not return", err.Error())
	require.NoError(t, errors.Unwrap(err))
}
