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
)

func TestEveryoneElseHears(t *testing.T) {
	server := new(tcpserver.TcpServer)
	require.NoError(t, server.Listen("tcp", "127.0.0.1:0"))
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
		require.ErrorIs(t, <-ended, context.Canceled)
	}()
	join := func(name string) (net.Conn, func() string) {
		conn, err := net.Dial("tcp", server.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() })
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(20*time.Second)))
		lines := bufio.NewReader(conn)
		next := func() string {
			line, err := lines.ReadString('\n')
			require.NoError(t, err)
			return line
		}
		require.Equal(t, "Your name?\n", next())
		fmt.Fprintln(conn, name)
		require.Equal(t, name, <-heard) // the clients' lines are not ordered among each other
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
	require.Equal(t, "bob: [2J red31m\ufffd\n", annHears(), "nothing that commands a terminal")
	require.NoError(t, bob.Close())
	require.Equal(t, "* bob has gone; 1 here\n", annHears())
}
