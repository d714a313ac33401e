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

func say(t testing.TB, conn net.Conn, text string) {
	t.Helper()
	_, err := io.WriteString(conn, text)
	require.NoError(t, err)
}

// hear reads as many bytes as want has.
func hear(t testing.TB, conn net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
	_, err := io.ReadFull(conn, got)
	require.NoError(t, err)
	require.True(t, want == string(got), "other bytes than were sent")
}

// hearEnd reads to the end of the stream.
func hearEnd(t testing.TB, conn net.Conn) string {
	t.Helper()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
	all, err := io.ReadAll(conn)
	require.NoError(t, err)
	return string(all)
}

// hearReset reads until the connection breaks, and wants a reset.
func hearReset(t testing.TB, conn net.Conn) {
	t.Helper()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
	_, err := io.Copy(io.Discard, conn)
	mustBeReset(t, err)
}

// echoBack is a ReadyRead that sends back what has come.
func echoBack(socket *tcpserver.TcpSocket) { socket.Send(socket.ReadAll()) }

// noise returns n random letters, 8 MiB at most.
func noise(n int) string { return letters()[:n] }

var letters = sync.OnceValue(func() string {
	p := make([]byte, 8<<20)
	rand.NewChaCha8([32]byte{}).Read(p)
	for i := range p {
		p[i] = 'A' + p[i]&31
	}
	return string(p)
})

// readUntilEnd reads from conn until its end and returns the error; nil is an end of stream.
func readUntilEnd(t testing.TB, conn net.Conn) error {
	t.Helper()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
	_, err := io.Copy(io.Discard, conn)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
	return err
}

// pattern returns n bytes, the same for the same seed, that look like nothing in particular.
func pattern(seed byte, n int) []byte {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(p)
	return p
}

// put has the peer send p and waits until all of it has come.
func put(t testing.TB, socket *tcpserver.TcpSocket, conn net.Conn, p string) {
	t.Helper()
	want := socket.BytesAvailable() + len(p)
	require.NoError(t, conn.SetWriteDeadline(time.Now().Add(patience)))
	_, err := io.WriteString(conn, p)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return socket.BytesAvailable() == want }, patience, time.Millisecond)
}

// blocked starts f, makes sure that it waits, and returns where its error will come.
func blocked(t testing.TB, f func() error) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		require.FailNow(t, "does not wait", "error: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	return done
}

// readOne is a Read for blocked.
func readOne(socket *tcpserver.TcpSocket) func() error {
	return func() error {
		_, err := socket.Read(make([]byte, 1))
		return err
	}
}

const (
	mib = 1 << 20
	// large is more than the system's buffers on both sides take when the peer does not read.
	large = 20 * mib
)

// jam sends until the queue is full, to a peer that does not read, and returns what was sent.
func jam(t testing.TB, socket *tcpserver.TcpSocket, conn *net.TCPConn) (sent []byte) {
	t.Helper()
	// Buffers of a fixed size, well below that of the queue, so that the system soon has enough and takes no more.
	require.NoError(t, conn.SetReadBuffer(128<<10))
	require.NoError(t, socket.SetWriteBuffer(128<<10))
	for i := byte(0); ; i++ {
		p := pattern(i, 64<<10)
		if err := socket.Send(p); err != nil {
			require.Equal(t, tcpserver.ErrWriteBufferFull, err)
			require.NotZero(t, socket.BytesToWrite())
			return sent
		}
		sent = append(sent, p...)
	}
}

// sendPaced sends p in pieces, waiting for room in the queue.
func sendPaced(t testing.TB, socket *tcpserver.TcpSocket, p []byte) {
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

// readToEnd reads what the peer gets until the end of the stream, and says how it ended.
func readToEnd(t testing.TB, conn net.Conn) ([]byte, error) {
	t.Helper()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
	return io.ReadAll(conn)
}

// mustGet reads the peer's side to an orderly end and compares.
func mustGet(t testing.TB, conn net.Conn, want []byte) {
	t.Helper()
	got, err := readToEnd(t, conn)
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got), "got %d bytes, want %d", len(got), len(want))
}

// mustBeCut reads the peer's side, and wants no more than sent and a reset after it.
func mustBeCut(t testing.TB, conn net.Conn, sent []byte) {
	t.Helper()
	got, err := readToEnd(t, conn)
	mustBeReset(t, err)
	require.True(t, bytes.HasPrefix(sent, got))
}
