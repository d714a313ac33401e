package tcpserver_test

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
)

// bind binds server to a free port of 127.0.0.1. It is closed when the test ends.
func bind(t testing.TB, server *tcpserver.TcpServer) *tcpserver.TcpServer {
	t.Helper()
	require.NoError(t, server.Bind("tcp", "127.0.0.1:0"))
	t.Cleanup(func() { server.Close() })
	return server
}

func TestBoundServerRefusesConnectionsUntilListenBound(t *testing.T) {
	server := bind(t, new(tcpserver.TcpServer))
	assert.True(t, server.IsBound())
	assert.False(t, server.IsListening())
	assert.False(t, server.IsAccepting())
	assert.NotZero(t, server.Port(), "the port must be known after Bind")
	addr := server.Addr().String()
	_, err := net.Dial("tcp", addr)
	require.ErrorIs(t, err, errRefused)

	require.NoError(t, server.ListenBound())
	assert.True(t, server.IsBound(), "IsBound must stay true while listening")
	assert.True(t, server.IsListening())
	assert.Equal(t, addr, server.Addr().String())
	connect(t, server)

	require.NoError(t, server.Close())
	assert.False(t, server.IsBound())
	assert.Nil(t, server.Addr())
	assert.Zero(t, server.Port())
}

func TestSecondBindReturnsEADDRINUSE(t *testing.T) {
	first := bind(t, new(tcpserver.TcpServer))
	addr := first.Addr().String()
	var second tcpserver.TcpServer
	for _, state := range []string{"bound", "listening"} {
		err := second.Bind("tcp", addr)
		require.ErrorIs(t, err, syscall.EADDRINUSE, state)
		assert.ErrorContains(t, err, addr)
		require.ErrorIs(t, second.Listen("tcp", addr), syscall.EADDRINUSE, state)
		require.ErrorIs(t, second.Err(), syscall.EADDRINUSE, state)
		assert.False(t, second.IsBound())
		if state == "bound" {
			require.NoError(t, first.ListenBound())
		}
	}
	require.NoError(t, first.Close())
	require.NoError(t, second.Bind("tcp", addr))
	assert.NoError(t, second.Err())
	require.NoError(t, second.Close())
}

// leaveInTimeWait closes a connection at the server's side first, which leaves it in TIME_WAIT, and closes the server.
func leaveInTimeWait(t *testing.T, server *tcpserver.TcpServer) {
	t.Helper()
	socket, conn := connect(t, server)
	require.NoError(t, socket.Close())
	_, err := conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	require.NoError(t, conn.Close())
	require.NoError(t, server.Close())
}

func TestBindSucceedsWithConnectionsInTimeWait(t *testing.T) {
	var first, second tcpserver.TcpServer
	listen(t, &first)
	addr := first.Addr().String()
	leaveInTimeWait(t, &first)

	require.NoError(t, first.Bind("tcp", addr))
	t.Cleanup(func() { first.Close() })
	require.ErrorIs(t, second.Bind("tcp", addr), syscall.EADDRINUSE, "Bind over TIME_WAIT must still be exclusive")
	require.NoError(t, first.ListenBound())
	leaveInTimeWait(t, &first)

	require.NoError(t, second.Listen("tcp", addr))
	t.Cleanup(func() { second.Close() })
	connect(t, &second)
}

func TestBindAndListenBoundInWrongStateReturnErrors(t *testing.T) {
	var server tcpserver.TcpServer
	require.ErrorIs(t, server.ListenBound(), tcpserver.ErrNotBound)
	bind(t, &server)
	port := server.Port()
	require.ErrorIs(t, server.Bind("tcp", "127.0.0.1:0"), tcpserver.ErrAlreadyBound)
	require.ErrorIs(t, server.Listen("tcp", "127.0.0.1:0"), tcpserver.ErrAlreadyBound)
	assert.Equal(t, port, server.Port(), "a failed call must change nothing")
	require.NoError(t, server.ListenBound())
	require.ErrorIs(t, server.ListenBound(), tcpserver.ErrAlreadyListening)
	require.ErrorIs(t, server.Bind("tcp", "127.0.0.1:0"), tcpserver.ErrAlreadyListening)
	assert.Equal(t, port, server.Port())
	require.NoError(t, server.Close())
	require.ErrorIs(t, server.ListenBound(), tcpserver.ErrNotBound)
	require.NoError(t, server.Bind("tcp", "127.0.0.1:0"), "a closed server can bind again")
	require.NoError(t, server.Close())
}

func TestBindRejectsInvalidArguments(t *testing.T) {
	var server tcpserver.TcpServer
	for address, want := range map[string]error{
		"127.0.0.1:-1":    tcpserver.ErrInvalidPort,
		"127.0.0.1:65536": tcpserver.ErrInvalidPort,
		"127.0.0.1":       tcpserver.ErrInvalidAddress,
		"203.0.113.1:0":   syscall.EADDRNOTAVAIL,
	} {
		err := server.Bind("tcp", address)
		require.ErrorIs(t, err, want, address)
		assert.ErrorContains(t, err, address)
		assert.False(t, server.IsBound())
	}
	server.Backlog = -1
	require.ErrorIs(t, server.Bind("tcp", "127.0.0.1:-1"), tcpserver.ErrBacklog)
}

func TestBindCopiesConfiguration(t *testing.T) {
	called := make(chan struct{}, 1)
	server := &tcpserver.TcpServer{NewConnectionHandler: func(*tcpserver.TcpServer) { called <- struct{}{} }}
	bind(t, server)
	server.NewConnectionHandler = nil
	require.NoError(t, server.ListenBound())
	connect(t, server)
	receive(t, called)
}

// sharesConnections finds out by trial whether the system distributes connections among the listeners on one port.
func sharesConnections(t *testing.T) bool {
	config := net.ListenConfig{Control: reusePort}
	var got [2]int
	address := "127.0.0.1:0"
	for i := range got {
		l, err := config.Listen(t.Context(), "tcp", address)
		if err != nil {
			return false
		}
		defer l.Close()
		address = l.Addr().String()
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				conn.Write([]byte{byte(i)})
				conn.Close()
			}
		}()
	}
	for range 100 {
		conn, err := net.Dial("tcp", address)
		require.NoError(t, err)
		which, err := io.ReadAll(conn)
		require.NoError(t, err)
		conn.Close()
		got[which[0]]++
	}
	return got[0] > 0 && got[1] > 0
}

func TestReusePortWorksOrReturnsErrUnsupported(t *testing.T) {
	server := tcpserver.TcpServer{ReusePort: true}
	if err := server.Listen("tcp", "127.0.0.1:0"); err != nil {
		require.ErrorIs(t, err, errors.ErrUnsupported)
		require.False(t, server.IsBound())
	}
	require.NoError(t, server.Close())
}

func TestReusePortDistributesConnections(t *testing.T) {
	if !sharesConnections(t) {
		skip(t, "the system does not distribute connections")
	}
	first := listen(t, &tcpserver.TcpServer{ReusePort: true})
	second := &tcpserver.TcpServer{ReusePort: true}
	require.NoError(t, second.Listen("tcp", first.Addr().String()))
	t.Cleanup(func() { second.Close() })
	var third tcpserver.TcpServer
	require.ErrorIs(t, third.Listen("tcp", first.Addr().String()), syscall.EADDRINUSE, "all servers need ReusePort")

	got := make(chan *tcpserver.TcpServer)
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	for _, server := range []*tcpserver.TcpServer{first, second} {
		go func() {
			for socket := range server.Connections(ctx) {
				socket.Close()
				select {
				case got <- server:
				case <-ctx.Done():
				}
			}
		}()
	}
	seen := map[*tcpserver.TcpServer]int{}
	for i := 0; len(seen) < 2; i++ {
		require.Less(t, i, 1000, "one server gets no connections")
		dial(t, first).Close()
		seen[receive(t, got)]++
	}
}
