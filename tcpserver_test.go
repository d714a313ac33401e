package tcpserver_test

import (
	"bytes"
	"io"
	"log"
	"log/slog"
	"math/rand"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
)

func TestZeroServerIsNotListening(t *testing.T) {
	t.Parallel()
	server := new(tcpserver.TcpServer)
	require.Equal(t, tcpserver.ErrNotListening, server.WaitForNewConnection(within(t)))
	_, err := server.AcceptSocket(within(t))
	require.Equal(t, tcpserver.ErrNotListening, err)
	_, err = server.Accept()
	require.ErrorIs(t, err, tcpserver.ErrNotListening)
	require.ErrorIs(t, err, net.ErrClosed)
	for range server.Connections(within(t)) {
		require.Fail(t, "a connection was yielded")
	}
	require.Nil(t, server.NextPendingConnection())
	require.False(t, server.HasPendingConnections())
	require.False(t, server.IsListening())
	require.Nil(t, server.Addr())
	require.Zero(t, server.Port())
	require.NoError(t, server.Err())
	require.Empty(t, server.ErrorString())
	require.Zero(t, server.Stats())
	require.NoError(t, server.Close())
	require.Equal(t, tcpserver.ErrNotListening, server.WaitForNewConnection(within(t)))
}

func TestListenWhileListeningChangesNothing(t *testing.T) {
	t.Parallel()
	server := listen(t, new(tcpserver.TcpServer))
	addr := server.Addr()
	queued := dial(t, server)
	untilPending(t, server, 1)
	for _, address := range []string{"127.0.0.1:0", addr.String()} {
		err := server.Listen("tcp", address)
		require.ErrorIs(t, err, tcpserver.ErrAlreadyListening)
		require.Equal(t, err, server.Err())
	}
	require.True(t, server.IsAccepting())
	require.Equal(t, addr, server.Addr())
	mustTake(t, server, queued, dial(t, server))
}

func TestListenReportsAddressInUse(t *testing.T) {
	t.Parallel()
	first := listen(t, new(tcpserver.TcpServer))
	second := new(tcpserver.TcpServer)
	err := second.Listen("tcp", first.Addr().String())
	require.ErrorIs(t, err, syscall.EADDRINUSE)
	require.Contains(t, err.Error(), first.Addr().String())
	require.Equal(t, err, second.Err())
	require.Equal(t, err.Error(), second.ErrorString())
	require.False(t, second.IsListening())
	require.NoError(t, first.Err())
	mustTake(t, first, dial(t, first))

	// A successful Listen, also on the address that was in use, clears the error.
	require.NoError(t, first.Close())
	require.NoError(t, second.Listen("tcp", err.(*net.OpError).Addr.String()))
	defer second.Close()
	require.NoError(t, second.Err())
	require.Empty(t, second.ErrorString())
}

func TestStatsCountsAcceptedPendingAndOpen(t *testing.T) {
	t.Parallel()
	server := new(tcpserver.TcpServer)
	is := func(accepted uint64, pending, open int) {
		t.Helper()
		until(t, func() bool { return server.Stats().Accepted == accepted })
		require.Equal(t, tcpserver.ServerStats{Accepted: accepted, Pending: pending, Open: open}, server.Stats())
		require.Equal(t, open, server.ConnectionCount())
		require.Equal(t, pending, server.PendingConnections())
		require.Equal(t, pending > 0, server.HasPendingConnections())
	}
	is(0, 0, 0)
	listen(t, server)
	is(0, 0, 0)
	dialMany(t, server, 3)
	is(3, 3, 3)
	first, second := take(t, server), take(t, server)
	is(3, 1, 3)
	require.NoError(t, first.Close())
	is(3, 1, 2)
	require.Error(t, first.Close())
	is(3, 1, 2)
	require.NoError(t, server.Close())
	is(3, 0, 1)
	listen(t, server)
	dial(t, server)
	is(4, 1, 2)
	require.NoError(t, second.Abort())
	is(4, 1, 1)
	require.NoError(t, server.Close())
	is(4, 0, 0)
}

func TestHTTPServerWorksOnTcpServer(t *testing.T) {
	t.Parallel()
	server := listen(t, new(tcpserver.TcpServer))
	served := make(chan error, 1)
	go func() {
		served <- http.Serve(server, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				panic(err)
			}
			w.Write(body)
		}))
	}()
	transport := new(http.Transport)
	client := http.Client{Transport: transport, Timeout: patience}
	body := make([]byte, 1<<20)
	rand.New(rand.NewSource(1)).Read(body)
	for i := range 5 {
		reused := false
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused },
		})
		req, err := http.NewRequestWithContext(ctx, "POST", "http://"+server.Addr().String(), bytes.NewReader(body))
		require.NoError(t, err)
		resp, err := client.Do(req)
		require.NoError(t, err)
		got, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.True(t, bytes.Equal(body, got))
		require.Equal(t, i > 0, reused, "the client must reuse the connection")
	}
	require.NoError(t, server.Close())
	require.ErrorIs(t, receive(t, served), net.ErrClosed)
	transport.CloseIdleConnections()
	until(t, func() bool { return server.ConnectionCount() == 0 })
}

// This test replaces the default logger of the process and is not parallel.
func TestNilLoggerUsesSlogDefault(t *testing.T) {
	lines := make(logLines, 10)
	old, output, flags := slog.Default(), log.Writer(), log.Flags()
	slog.SetDefault(slog.New(slog.NewTextHandler(lines, nil)))
	defer func() {
		slog.SetDefault(old)
		log.SetOutput(output)
		log.SetFlags(flags)
	}()
	var filtered atomic.Bool
	server := listen(t, &tcpserver.TcpServer{
		Filter: func(netip.AddrPort) bool {
			if !filtered.Swap(true) {
				panic("in Filter")
			}
			return true
		},
		NewConnectionHandler: func(*tcpserver.TcpServer) { panic("in NewConnectionHandler") },
	})
	dial(t, server)
	require.Contains(t, receive(t, lines), "in Filter")
	socket, conn := connect(t, server)
	require.Contains(t, receive(t, lines), "in NewConnectionHandler")
	socket.SetHandlers(&tcpserver.SocketHandlers{ReadyRead: func(*tcpserver.TcpSocket) { panic("in ReadyRead") }})
	writeString(t, conn, "hello")
	require.Contains(t, receive(t, lines), "in ReadyRead")
}

func TestListenCopiesConfiguration(t *testing.T) {
	t.Parallel()
	called := make(chan string, 10)
	handler := func(name string) func(*tcpserver.TcpServer) {
		return func(*tcpserver.TcpServer) { called <- name }
	}
	server := listen(t, &tcpserver.TcpServer{NewConnectionHandler: handler("old")})
	server.NewConnectionHandler = handler("new")
	server.Executor = func(func()) {} // would lose every call
	server.Backlog = -1
	dial(t, server)
	require.Equal(t, "old", receive(t, called))
	require.NoError(t, server.Close())
	require.ErrorIs(t, server.Listen("tcp", "127.0.0.1:0"), tcpserver.ErrBacklog)
	server.Backlog, server.Executor = 0, nil
	listen(t, server)
	dial(t, server)
	require.Equal(t, "new", receive(t, called))
	require.Empty(t, called)
}
