// Netpoll is an echo server with netpoll and one poller.
package main

import (
	"context"

	"github.com/cloudwego/netpoll"

	"github.com/pullaccept/tcpserver/bench/internal/serve"
)

func main() {
	serve.Check(netpoll.Configure(netpoll.Config{PollerNum: 1}))
	l, err := netpoll.CreateListener("tcp", "127.0.0.1:0")
	serve.Check(err)
	loop, err := netpoll.NewEventLoop(func(_ context.Context, c netpoll.Connection) error {
		p, err := c.Reader().Next(c.Reader().Len())
		if err != nil {
			return err
		}
		if _, err := c.Writer().WriteBinary(p); err != nil {
			return err
		}
		if err := c.Writer().Flush(); err != nil {
			return err
		}
		return c.Reader().Release()
	})
	serve.Check(err)
	go func() { serve.Check(loop.Serve(l)) }()
	serve.Until(l.Addr().String())
}
