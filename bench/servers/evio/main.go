// Evio is an echo server with evio and one event loop.
package main

import (
	"time"

	"github.com/tidwall/evio"

	"github.com/pullaccept/tcpserver/bench/internal/serve"
)

func main() {
	addr := serve.FreeAddr()
	started := make(chan struct{})
	events := evio.Events{
		NumLoops: 1,
		Serving: func(evio.Server) evio.Action {
			close(started)
			return evio.None
		},
		Opened: func(evio.Conn) ([]byte, evio.Options, evio.Action) {
			return nil, evio.Options{TCPKeepAlive: time.Minute, ReuseInputBuffer: true}, evio.None
		},
		Data: func(_ evio.Conn, in []byte) ([]byte, evio.Action) { return in, evio.None },
	}
	go func() { serve.Check(evio.Serve(events, "tcp://"+addr)) }()
	<-started
	serve.Until(addr)
}
