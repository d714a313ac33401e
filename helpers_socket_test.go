package tcpserver_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
)

// writeString writes text to conn.
func writeString(t testing.TB, conn net.Conn, text string) {
	t.Helper()
	_, err := io.WriteString(conn, text)
	require.NoError(t, err)
}

// mustRead reads as many bytes as want has and compares them.
func mustRead(t testing.TB, conn net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
	_, err := io.ReadFull(conn, got)
	require.NoError(t, err)
	require.True(t, want == string(got), "received other bytes than were sent")
}

// mustReadAll reads until the end of the stream.
func mustReadAll(t testing.TB, conn net.Conn) string {
	t.Helper()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
	all, err := io.ReadAll(conn)
	require.NoError(t, err)
	return string(all)
}

// mustReadReset reads until an error and checks that it is a reset.
func mustReadReset(t testing.TB, conn net.Conn) {
	t.Helper()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
	_, err := io.Copy(io.Discard, conn)
	mustBeReset(t, err)
}

// echoBack is a ReadyRead handler that echoes what it receives.
func echoBack(socket *tcpserver.TcpSocket) { socket.Send(socket.ReadAll()) }

// randomLetters returns n random letters; n is at most 8 MiB.
func randomLetters(n int) string { return letters()[:n] }

var letters = sync.OnceValue(func() string {
	p := make([]byte, 8<<20)
	rand.NewChaCha8([32]byte{}).Read(p)
	for i := range p {
		p[i] = 'A' + p[i]&31
	}
	return string(p)
})

// readUntilEnd reads until the end of the connection and returns its error, which is nil for an end of stream.
func readUntilEnd(t testing.TB, conn net.Conn) error {
	t.Helper()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
	_, err := io.Copy(io.Discard, conn)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
	return err
}

// randomBytes returns n random bytes, which are the same for the same seed.
func randomBytes(seed byte, n int) []byte {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(p)
	return p
}

// sendFromPeer sends p from the peer and waits until the socket has received all of it.
func sendFromPeer(t testing.TB, socket *tcpserver.TcpSocket, conn net.Conn, p string) {
	t.Helper()
	want := socket.BytesAvailable() + len(p)
	require.NoError(t, conn.SetWriteDeadline(time.Now().Add(patience)))
	_, err := io.WriteString(conn, p)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return socket.BytesAvailable() == want }, patience, time.Millisecond)
}

// mustBlock starts f, checks that it blocks, and returns a channel that receives its error.
func mustBlock(t testing.TB, f func() error) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		require.FailNow(t, "the call did not block", "error: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	return done
}

// readByte returns a function that reads one byte.
func readByte(socket *tcpserver.TcpSocket) func() error {
	return func() error {
		_, err := socket.Read(make([]byte, 1))
		return err
	}
}

const (
	mib = 1 << 20
	// large is more than fits into the system's buffers on both sides while the peer does not read.
	large = 20 * mib
)

// fillSendQueue calls Send, while the peer does not read, until the send queue is full. It returns what was sent.
func fillSendQueue(t testing.TB, socket *tcpserver.TcpSocket, conn *net.TCPConn) (sent []byte) {
	t.Helper()
	// The system's buffers get a fixed size, well below that of the queue, so that they fill up soon.
	require.NoError(t, conn.SetReadBuffer(128<<10))
	require.NoError(t, socket.SetWriteBuffer(128<<10))
	for i := byte(0); ; i++ {
		p := randomBytes(i, 64<<10)
		if err := socket.Send(p); err != nil {
			require.Equal(t, tcpserver.ErrWriteBufferFull, err)
			require.NotZero(t, socket.BytesToWrite())
			return sent
		}
		sent = append(sent, p...)
	}
}

// sendInPieces sends p in pieces and waits for room in the queue.
func sendInPieces(t testing.TB, socket *tcpserver.TcpSocket, p []byte) {
	t.Helper()
	for len(p) > 0 {
		n := min(len(p), 256<<10)
		switch err := socket.Send(p[:n]); err {
		case nil:
			p = p[n:]
		case tcpserver.ErrWriteBufferFull:
			require.NoError(t, socket.WaitForBytesWritten(within(t)))
		default:
			require.NoError(t, err)
		}
	}
}

// flood writes p again and again until stop is closed, also while the peer does not read.
func flood(conn net.Conn, p []byte, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
			conn.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
			conn.Write(p)
		}
	}
}

// readToEnd reads the peer's side until its end and returns the error, which is nil for an end of stream.
func readToEnd(t testing.TB, conn net.Conn) ([]byte, error) {
	t.Helper()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
	return io.ReadAll(conn)
}

// mustReadExactly reads the peer's side until the end of the stream and compares.
func mustReadExactly(t testing.TB, conn net.Conn, want []byte) {
	t.Helper()
	got, err := readToEnd(t, conn)
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got), "got %d bytes, want %d", len(got), len(want))
}

// mustReadPrefixThenReset checks that the peer's side gets a part of sent, or all of it, and then a reset.
func mustReadPrefixThenReset(t testing.TB, conn net.Conn, sent []byte) {
	t.Helper()
	got, err := readToEnd(t, conn)
	mustBeReset(t, err)
	require.True(t, bytes.HasPrefix(sent, got))
}
