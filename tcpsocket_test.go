package tcpserver_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
)

func TestAddressesStayValidAfterClose(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"127.0.0.1:0", "0.0.0.0:0"} {
		server := new(tcpserver.TcpServer)
		require.NoError(t, server.Listen("tcp4", address))
		defer server.Close()
		conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", portOf(server.Addr())))
		require.NoError(t, err)
		defer conn.Close()
		socket := take(t, server)
		for range 2 { // the second time the socket is closed
			require.Equal(t, conn.RemoteAddr().String(), socket.LocalAddr().String())
			require.Equal(t, conn.LocalAddr().String(), socket.RemoteAddr().String())
			require.Equal(t, "tcp", socket.LocalAddr().Network())
			require.IsType(t, (*net.TCPAddr)(nil), socket.RemoteAddr())
			socket.Close()
		}
	}
}

func portOf(addr net.Addr) string {
	_, port, _ := net.SplitHostPort(addr.String())
	return port
}

func TestUserDataAndServerStayValidAfterClose(t *testing.T) {
	t.Parallel()
	server := listen(t, new(tcpserver.TcpServer))
	socket, _ := connect(t, server)
	require.Same(t, server, socket.Server())
	require.Nil(t, socket.UserData())
	socket.SetUserData(42)
	require.Equal(t, 42, socket.UserData())
	socket.Close()
	server.Close()
	require.Same(t, server, socket.Server())
	require.Equal(t, 42, socket.UserData())
	socket.SetUserData("more")
	require.Equal(t, "more", socket.UserData())
	socket.SetUserData(nil)
	require.Nil(t, socket.UserData())
}

// certificate returns the configurations of a server with a self-signed certificate for 127.0.0.1 and of a client that
// trusts it.
func certificate(t testing.TB) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(crand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	parsed, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	trusted := x509.NewCertPool()
	trusted.AddCert(parsed)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}},
		&tls.Config{RootCAs: trusted, ServerName: "127.0.0.1"}
}

func TestSocketCarriesTLS(t *testing.T) {
	t.Parallel()
	serverConfig, clientConfig := certificate(t)
	for _, acceptedIsServer := range []bool{true, false} {
		socket, conn := pair(t)
		a, b := tls.Server(socket, serverConfig), tls.Client(conn, clientConfig)
		if !acceptedIsServer {
			a, b = tls.Client(socket, clientConfig), tls.Server(conn, serverConfig)
		}
		var wg sync.WaitGroup
		for i, ends := range [][2]*tls.Conn{{a, b}, {b, a}} {
			from, to := ends[0], ends[1]
			data := randomBytes(byte(i), mib)
			wg.Go(func() {
				n, err := from.Write(data)
				if err == nil {
					err = from.CloseWrite()
				}
				if err != nil || n != len(data) {
					t.Errorf("accepted socket is the server: %v: wrote %d bytes, error %v", acceptedIsServer, n, err)
				}
			})
			wg.Go(func() {
				got, err := io.ReadAll(to)
				if err != nil || !bytes.Equal(data, got) {
					t.Errorf("accepted socket is the server: %v: read %d bytes, error %v",
						acceptedIsServer, len(got), err)
				}
			})
		}
		wg.Wait()
		require.NoError(t, a.Close())
		require.NoError(t, b.Close())
		mustEnd(t, socket, nil)
	}
}

// The race detector sees whether the methods that look at a socket do so under its locks.
func TestSocketCanBeLookedAtWhileItsConnectionEnds(t *testing.T) {
	t.Parallel()
	server := listen(t, new(tcpserver.TcpServer))
	for range 20 {
		socket, conn := connect(t, server)
		socket.SetHandlers(&tcpserver.SocketHandlers{})
		require.NoError(t, socket.SetDeadline(time.Now().Add(time.Hour))) // Err has something to look at
		looked := make(chan struct{})
		go func() {
			defer close(looked)
			for socket.Err() == nil {
				_, _, _, _ = socket.State(), socket.BytesAvailable(), socket.BytesToWrite(), socket.LocalAddr()
				_, _ = socket.BytesRead(), socket.BytesSent()
			}
		}()
		reset(t, conn)
		receive(t, looked)
		require.NotEmpty(t, socket.ErrorString())
	}
}
