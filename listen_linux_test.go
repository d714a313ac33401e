package tcpserver_test

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
)

func TestListenOnAbstractUnixAddress(t *testing.T) {
	t.Parallel()
	name := fmt.Sprintf("@tcpserver-test-%d", os.Getpid())
	for _, address := range []string{name, "\x00" + name[1:]} {
		var server tcpserver.TcpServer
		require.NoError(t, server.Listen("unix", address))
		require.Equal(t, name, server.Addr().String())
		conn, err := net.Dial("unix", name)
		require.NoError(t, err)
		require.Equal(t, name, take(t, &server).LocalAddr().String())
		conn.Close()
		require.NoError(t, server.Close())
	}
	server := tcpserver.TcpServer{SocketMode: 0o600}
	require.ErrorIs(t, server.Listen("unix", name), tcpserver.ErrInvalidAddress, "it has no file mode")
}

func TestProtectedPortNeedsPermission(t *testing.T) {
	first, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err != nil || strings.TrimSpace(string(first)) == "0" {
		skip(t, "the system has no protected ports")
	}
	if os.Getuid() == 0 {
		if !alone(t) {
			return
		}
		const nobody = 65534
		require.NoError(t, syscall.Setuid(nobody))
	}
	var server tcpserver.TcpServer
	for _, open := range []func(network, address string) error{server.Bind, server.Listen} {
		err := open("tcp", "127.0.0.1:1")
		require.ErrorIs(t, err, syscall.EACCES)
		require.ErrorIs(t, err, os.ErrPermission)
		require.ErrorContains(t, err, "127.0.0.1:1")
	}
}
