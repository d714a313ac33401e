// Package conformance runs golang.org/x/net/nettest, the conformance suite of net.Conn, against accepted sockets. It is
// a module of its own so that golang.org/x/net does not reach the module graph of the library's users.
package conformance

import (
	"fmt"
	"net"
	"testing"

	"golang.org/x/net/nettest"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/servertest"
)

func TestMain(m *testing.M) { servertest.Main(m) }

// TestConformsToNetConn tests an accepted socket as either end of the connection, on one loop and on two.
func TestConformsToNetConn(t *testing.T) {
	for _, loops := range []int{1, 2} {
		for _, acceptedFirst := range []bool{true, false} {
			t.Run(fmt.Sprintf("loops=%d,acceptedFirst=%t", loops, acceptedFirst), func(t *testing.T) {
				nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
					accepted, dialed, stop, err := connect(loops)
					if acceptedFirst {
						return accepted, dialed, stop, err
					}
					return dialed, accepted, stop, err
				})
			})
		}
	}
}

// connect returns both ends of a connection to a server with loops event loops. If err is nil, stop closes them and
// the server.
func connect(loops int) (accepted, dialed net.Conn, stop func(), err error) {
	poller, err := tcpserver.NewPoller(loops)
	if err != nil {
		return nil, nil, nil, err
	}
	server := &tcpserver.TcpServer{Poller: poller}
	if err := server.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, nil, nil, err
	}
	dialed, err = net.Dial("tcp", server.Addr().String())
	if err != nil {
		server.Close()
		return nil, nil, nil, err
	}
	accepted, err = server.Accept()
	if err != nil {
		dialed.Close()
		server.Close()
		return nil, nil, nil, err
	}
	stop = func() {
		accepted.Close()
		dialed.Close()
		server.Close()
	}
	return accepted, dialed, stop, nil
}
