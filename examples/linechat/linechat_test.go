package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/servertest"
)

// TestMain fails the run if a goroutine or a descriptor is left at its end.
func TestMain(m *testing.M) { servertest.Main(m) }

func TestLinesReachEveryoneElse(t *testing.T) {
	server := servertest.Listen(t, new(tcpserver.TcpServer))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	chat := newChat()
	said, heard := chat.server.ClientMessage, make(chan string, 10)
	chat.server.ClientMessage = func(u *user, line string) {
		said(u, line)
		heard <- line
	}
	go func() { ended <- chat.server.Serve(ctx, server) }()
	defer func() {
		cancel()
		require.ErrorIs(t, servertest.Receive(t, ended), context.Canceled)
	}()
	join := func(name string) (net.Conn, func() string) {
		conn := servertest.Dial(t, server.Addr())
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(servertest.Patience)))
		lines := bufio.NewReader(conn)
		next := func() string {
			line, err := lines.ReadString('\n')
			require.NoError(t, err)
			return line
		}
		require.Equal(t, "Your name?\n", next())
		fmt.Fprintln(conn, name)
		require.Equal(t, name, servertest.Receive(t, heard)) // lines of different clients have no order
		return conn, next
	}
	ann, annHears := join("ann")
	bob, bobHears := join("bob")
	require.Equal(t, "* bob has come; 2 here\n", annHears())
	fmt.Fprintln(ann, "hello")
	require.Equal(t, "ann: hello\n", bobHears())
	fmt.Fprint(bob, "\r\nhi\r\n")
	require.Equal(t, "bob: hi\n", annHears())
	fmt.Fprintln(bob, "\x1b[2J\x07\tred\u009b31m\u202e\xff")
	require.Equal(t, "bob: [2J red31m\ufffd\n", annHears(), "control characters are dropped")
	require.NoError(t, bob.Close())
	require.Equal(t, "* bob has gone; 1 here\n", annHears())
}
