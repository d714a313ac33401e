package tcpserver_test

import (
	"net"
	"testing"

	"golang.org/x/net/nettest"

	"github.com/pullaccept/tcpserver"
)

// The conformance suite of the standard library's contract, with an accepted socket at either end.
func TestConformsToNetConn(t *testing.T) {
	for _, loops := range []int{1, 2} {
		for _, acceptedFirst := range []bool{true, false} {
			nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
				poller, err := tcpserver.NewPoller(loops)
				if err != nil {
					return nil, nil, nil, err
				}
				server := &tcpserver.TcpServer{Poller: poller}
				if err := server.Listen("tcp", "127.0.0.1:0"); err != nil {
					return nil, nil, nil, err
				}
				dialed, err := net.Dial("tcp", server.Addr().String())
				if err != nil {
					return nil, nil, nil, err
				}
				accepted, err := server.Accept()
				if err != nil {
					return nil, nil, nil, err
				}
				stop = func() {
					accepted.Close()
					dialed.Close()
					server.Close()
				}
				if acceptedFirst {
					return accepted, dialed, stop, nil
				}
				return dialed, accepted, stop, nil
			})
		}
	}
}
