package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver/internal/servertest"
)

// TestMain fails the run if a goroutine or a descriptor is left at its end.
func TestMain(m *testing.M) { servertest.Main(m) }

// A screen is what the terminal prints, by lines.
type screen struct {
	t     *testing.T
	lines *bufio.Reader
}

func (s screen) next() string {
	line, err := s.lines.ReadString('\n')
	require.NoError(s.t, err)
	return strings.TrimSuffix(line, "\n")
}

// start runs the terminal. It returns what it prints, where to type, and the channel that gets what run has returned.
func start(ctx context.Context, t *testing.T) (out screen, in *io.PipeWriter, addr string, ended <-chan error) {
	t.Helper()
	typed, in := io.Pipe()
	shown, printed := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := run(ctx, "127.0.0.1:0", typed, printed)
		typed.Close()
		printed.Close()
		done <- err
	}()
	out = screen{t, bufio.NewReader(shown)}
	addr, found := strings.CutPrefix(out.next(), "listening on ")
	require.True(t, found)
	return out, in, addr, done
}

func dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(servertest.Patience)))
	return conn.(*net.TCPConn)
}

func TestTypedLinesReachClientsAndTheirsTheTerminal(t *testing.T) {
	out, in, addr, ended := start(t.Context(), t)
	ann := dial(t, addr)
	name := ann.LocalAddr().String()
	require.Equal(t, name+" has connected; clients: 1", out.next())
	io.WriteString(ann, "hel")
	io.WriteString(ann, "lo\r\n\x1b[2Jbye\nand \xff\u2713")
	require.Equal(t, name+": hello", out.next())
	require.Equal(t, name+": [2Jbye", out.next(), "control characters are dropped")
	bob := dial(t, addr)
	require.Equal(t, bob.LocalAddr().String()+" has connected; clients: 2", out.next())
	fmt.Fprintln(in, "good evening")
	for _, conn := range []net.Conn{ann, bob} {
		line, err := bufio.NewReader(conn).ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "good evening\n", line)
	}
	require.NoError(t, ann.CloseWrite())
	require.Equal(t, name+": and \uFFFD\u2713", out.next(), "what is left of a line at the end")
	require.Equal(t, name+" has gone; clients: 1", out.next())

	// The end of what is typed ends the program, after bob has got everything.
	fmt.Fprintln(in, "good night")
	require.NoError(t, in.Close())
	rest, err := io.ReadAll(bob)
	require.NoError(t, err)
	require.Equal(t, "good night\n", string(rest))
	require.Equal(t, bob.LocalAddr().String()+" has gone; clients: 0", out.next())
	require.NoError(t, servertest.Receive(t, ended))
}

// A line of 64 KiB or more is longer than what a bufio.Scanner takes by itself.
func TestLongTypedLineReachesClients(t *testing.T) {
	out, in, addr, ended := start(t.Context(), t)
	conn := dial(t, addr)
	require.Contains(t, out.next(), "has connected")
	line := strings.Repeat("x", maxTyped-1) + "\n"
	go func() {
		io.WriteString(in, line)
		in.Close()
	}()
	got, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.True(t, line == string(got), "%d bytes", len(got))
	require.Contains(t, out.next(), "has gone")
	require.NoError(t, servertest.Receive(t, ended))
}

// A long line is shown in pieces.
func TestCharacterIsWholeWhereALongLineIsCut(t *testing.T) {
	out, in, addr, ended := start(t.Context(), t)
	conn := dial(t, addr)
	name := conn.LocalAddr().String()
	require.Contains(t, out.next(), "has connected")
	long := strings.Repeat("x", maxLine+1)
	for _, char := range []string{"\u00e9", "\u2713", "\U0001f600"} {
		for n := range len(char) {
			io.WriteString(conn, long+char[:n])
			require.Equal(t, name+": "+long, out.next())
			io.WriteString(conn, char[n:]+"\n")
			require.Equal(t, name+": "+char, out.next())
		}
	}
	io.WriteString(conn, long[1:]+"\xff")
	require.Equal(t, name+": "+long[1:]+"\uFFFD", out.next(), "no character begins so")
	require.NoError(t, in.Close())
	require.Contains(t, out.next(), "has gone")
	require.NoError(t, servertest.Receive(t, ended))
}

func TestFailureToReadWhatIsTypedIsReturned(t *testing.T) {
	broken := iotest.ErrReader(io.ErrNoProgress)
	require.ErrorIs(t, run(t.Context(), "127.0.0.1:0", broken, io.Discard), io.ErrNoProgress)
	long := strings.NewReader(strings.Repeat("x", maxTyped) + "\n")
	require.ErrorIs(t, run(t.Context(), "127.0.0.1:0", long, io.Discard), bufio.ErrTooLong)
}

func TestInterruptEndsTheTerminal(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	out, in, addr, ended := start(ctx, t)
	conn := dial(t, addr)
	require.Contains(t, out.next(), "has connected")
	interrupt()
	_, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Contains(t, out.next(), "has gone")
	require.NoError(t, servertest.Receive(t, ended))
	in.Close()
}

func TestListenErrorEndsTheTerminal(t *testing.T) {
	require.Error(t, run(t.Context(), "127.0.0.1:-1", strings.NewReader(""), io.Discard))
}
