//go:build linux

package tcpserver_test

import (
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
)

// The first descriptor that is passed on is 3, as with systemd's socket activation.
func TestListenFileServesInheritedDescriptor(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	require.NoError(t, err)
	defer f.Close()
	child := again(t, func(cmd *exec.Cmd) {
		cmd.ExtraFiles = []*os.File{f}
		cmd.Env = append(cmd.Env, "TCPSERVER_TEST_ADDR="+l.Addr().String())
	})
	if !child {
		return
	}
	inherited := os.NewFile(3, "inherited")
	var server tcpserver.TcpServer
	require.NoError(t, server.ListenFile(inherited))
	t.Cleanup(func() { server.Close() })
	require.NoError(t, inherited.Close())
	require.Equal(t, os.Getenv("TCPSERVER_TEST_ADDR"), server.Addr().String())
	connect(t, &server)
}

func TestProtectedPortNeedsPermission(t *testing.T) {
	first, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err != nil || strings.TrimSpace(string(first)) == "0" {
		skip(t, "the system protects no port")
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
