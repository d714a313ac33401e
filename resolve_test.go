package tcpserver_test

import (
	"net"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
)

func TestListenRejectsInvalidAddresses(t *testing.T) {
	t.Parallel()
	var unknown net.UnknownNetworkError
	for _, c := range []struct {
		network, address string
		backlog          int
		want             error
	}{
		{"tcp", "127.0.0.1:65536", 0, tcpserver.ErrInvalidPort},
		{"tcp", "127.0.0.1:-1", 0, tcpserver.ErrInvalidPort},
		{"tcp", "127.0.0.1:99999999999999999999", 0, tcpserver.ErrInvalidPort},
		{"tcp", "127.0.0.1:no such service", 0, tcpserver.ErrInvalidPort},
		{"tcp", "127.0.0.1", 0, tcpserver.ErrInvalidAddress},
		{"tcp", "::1:80", 0, tcpserver.ErrInvalidAddress},
		{"tcp", "[::1:80", 0, tcpserver.ErrInvalidAddress},
		{"tcp4", "[::1]:0", 0, tcpserver.ErrInvalidAddress},
		{"tcp6", "127.0.0.1:0", 0, tcpserver.ErrInvalidAddress},
		{"tcp", "127.0.0.1:0", -1, tcpserver.ErrBacklog},
		{"tcp", "192.0.2.1:0", 0, syscall.EADDRNOTAVAIL}, // reserved for documentation
		{"", "127.0.0.1:0", 0, nil},
		{"udp", "127.0.0.1:0", 0, nil},
		{"TCP", "127.0.0.1:0", 0, nil},
	} {
		server := &tcpserver.TcpServer{Backlog: c.backlog}
		err := server.Listen(c.network, c.address)
		var opErr *net.OpError
		require.ErrorAs(t, err, &opErr, "%q %q", c.network, c.address)
		require.Equal(t, "listen", opErr.Op)
		require.Contains(t, err.Error(), c.address)
		if c.want != nil {
			require.ErrorIs(t, err, c.want, "%q %q", c.network, c.address)
		} else {
			require.ErrorAs(t, err, &unknown)
			require.Equal(t, c.network, string(unknown))
		}
		require.Equal(t, err, server.Err())
		require.Equal(t, err.Error(), server.ErrorString())
		require.False(t, server.IsListening())

		server.Backlog = 0
		listen(t, server)
		require.NoError(t, server.Err())
	}
}

// hasHost reports whether the machine has the address host. Some have no IPv6, or not all of 127.0.0.0/8.
func hasHost(host string) bool {
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return false
	}
	l.Close()
	return true
}

// hasDualStack reports whether one socket can accept both IPv4 and IPv6 connections. On OpenBSD it cannot.
func hasDualStack(t *testing.T) bool {
	l, err := net.Listen("tcp", ":0")
	require.NoError(t, err)
	defer l.Close()
	for _, host := range []string{"127.0.0.1", "::1"} {
		conn, err := net.Dial("tcp", net.JoinHostPort(host, strconv.Itoa(l.Addr().(*net.TCPAddr).Port)))
		if err != nil {
			return false
		}
		conn.Close()
	}
	return true
}

func TestListenAcceptsOnlyPeersOfItsNetwork(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		network, address string
		allowed          []string // hosts that can connect
		refused          []string // hosts that cannot
	}{
		{"tcp", "127.0.0.1:0", []string{"127.0.0.1"}, []string{"127.0.0.2", "::1"}},
		{"tcp", "localhost:0", []string{"127.0.0.1"}, []string{"::1"}},
		{"tcp", ":0", []string{"127.0.0.1", "::1"}, nil},
		{"tcp", "[::]:0", []string{"127.0.0.1", "::1"}, nil},
		{"tcp", "0.0.0.0:0", []string{"127.0.0.1", "::1"}, nil}, // as with package net
		{"tcp", "", []string{"127.0.0.1", "::1"}, nil},
		{"tcp4", ":0", []string{"127.0.0.1", "127.0.0.2"}, []string{"::1"}},
		{"tcp4", "", []string{"127.0.0.1"}, []string{"::1"}},
		{"tcp4", "[::]:0", []string{"127.0.0.1"}, []string{"::1"}},
		{"tcp4", "0.0.0.0:0", []string{"127.0.0.1"}, []string{"::1"}},
		{"tcp6", ":0", []string{"::1"}, []string{"127.0.0.1"}},
		{"tcp6", "", []string{"::1"}, []string{"127.0.0.1"}},
		{"tcp6", "[::]:0", []string{"::1"}, []string{"127.0.0.1"}},
		{"tcp6", "[::1]:0", []string{"::1"}, []string{"127.0.0.1"}},
	} {
		t.Run(c.network+" "+c.address, func(t *testing.T) {
			if c.network == "tcp6" && !hasHost("::1") {
				skip(t, "no IPv6 here")
			}
			server := new(tcpserver.TcpServer)
			require.NoError(t, server.Listen(c.network, c.address))
			defer server.Close()
			port := strconv.Itoa(server.Port())
			require.Equal(t, server.Port(), server.Addr().(*net.TCPAddr).Port)
			for _, host := range c.allowed {
				if hasHost(host) && (host != "::1" || c.network != "tcp" || hasDualStack(t)) {
					mustAgreeOnAddresses(t, server, net.JoinHostPort(host, port))
				}
			}
			for _, host := range c.refused {
				if hasHost(host) {
					_, err := net.Dial("tcp", net.JoinHostPort(host, port))
					require.Error(t, err, host)
				}
			}
		})
	}
}

// mustAgreeOnAddresses checks that both ends of connections to addr report the same addresses in the same form: while
// they are open, and after Close, both with and without an earlier call.
func mustAgreeOnAddresses(t testing.TB, server *tcpserver.TcpServer, addr string) {
	t.Helper()
	for _, before := range []bool{true, false} {
		conn, err := net.Dial("tcp", addr)
		require.NoError(t, err)
		socket := take(t, server)
		check := func() {
			t.Helper()
			for _, c := range []struct{ here, there net.Addr }{
				{socket.LocalAddr(), conn.RemoteAddr()},
				{socket.RemoteAddr(), conn.LocalAddr()},
			} {
				require.Equal(t, c.there.(*net.TCPAddr).AddrPort(), c.here.(*net.TCPAddr).AddrPort())
			}
		}
		if before {
			check()
		}
		require.NoError(t, socket.Close())
		check()
		require.NoError(t, conn.Close())
		check()
	}
}
