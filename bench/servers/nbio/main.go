// Nbio is an echo server with nbio and one poller.
package main

import (
	"github.com/lesismal/nbio"
	"github.com/lesismal/nbio/logging"

	"github.com/pullaccept/tcpserver/bench/internal/serve"
)

func main() {
	logging.SetLevel(logging.LevelNone)
	addr := serve.FreeAddr()
	engine := nbio.NewEngine(nbio.Config{
		Network:            "tcp",
		Addrs:              []string{addr},
		NPoller:            1,
		ReadBufferSize:     serve.BufferSize,
		MaxWriteBufferSize: 16 << 20,
	})
	engine.OnData(func(c *nbio.Conn, data []byte) { c.Write(data) })
	serve.Check(engine.Start())
	serve.Until(addr)
}
