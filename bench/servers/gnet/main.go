// Gnet is an echo server with gnet and one event loop per processor.
package main

import (
	"flag"
	"runtime"

	"github.com/panjf2000/gnet/v2"

	"github.com/pullaccept/tcpserver/bench/internal/serve"
)

type handler struct {
	gnet.BuiltinEventEngine
	booted chan struct{}
}

func (h *handler) OnBoot(gnet.Engine) gnet.Action {
	close(h.booted)
	return gnet.None
}

func (h *handler) OnTraffic(c gnet.Conn) gnet.Action {
	p, _ := c.Next(-1)
	serve.Work()
	c.Write(p)
	return gnet.None
}

func main() {
	flag.Parse()
	addr := serve.FreeAddr()
	h := &handler{booted: make(chan struct{})}
	go func() {
		serve.Check(gnet.Run(h, "tcp://"+addr, gnet.WithNumEventLoop(runtime.GOMAXPROCS(0)),
			gnet.WithTCPNoDelay(gnet.TCPNoDelay), gnet.WithReadBufferCap(serve.BufferSize)))
	}()
	<-h.booted
	serve.Until(addr)
}
