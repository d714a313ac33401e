//go:build linux

package tcpserver_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
)

// benchServers has, by name, functions that start an echo server and return its address.
var benchServers = map[string]func() (string, error){
	"handlers": func() (string, error) {
		return startEcho(&tcpserver.TcpServer{NewConnectionHandler: func(server *tcpserver.TcpServer) {
			if socket := server.NextPendingConnection(); socket != nil {
				socket.SetHandlers(&echoHandlers)
			}
		}})
	},
	"blocking": func() (string, error) {
		server := new(tcpserver.TcpServer)
		addr, err := startEcho(server)
		go func() {
			for socket := range server.Connections(context.Background()) {
				go echoBlocking(socket)
			}
		}()
		return addr, err
	},
	"std": func() (string, error) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go echoBlocking(conn)
			}
		}()
		return l.Addr().String(), nil
	},
}

func startEcho(server *tcpserver.TcpServer) (string, error) {
	if err := server.Listen("tcp", "127.0.0.1:0"); err != nil {
		return "", err
	}
	return server.Addr().String(), nil
}

var echoHandlers = tcpserver.SocketHandlers{ReadyRead: func(socket *tcpserver.TcpSocket) {
	p := socket.Peek(64 << 10)
	if socket.Send(p) == nil {
		socket.Discard(len(p))
	}
}}

func echoBlocking(conn net.Conn) {
	defer conn.Close()
	buf := make([]byte, 4<<10)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		if _, err := conn.Write(buf[:n]); err != nil {
			return
		}
	}
}

// A contender is a server of a comparison, its load, and the figures of each round.
type contender struct {
	name, addr   string
	server, load *helper
	rate, p50    []float64
	p99, cpu     []float64
	allocs       []float64
}

func contend(b *testing.B, name string, connections int) *contender {
	server := startHelper(b, "serve", name)
	addr := server.line()
	load := startHelper(b, "load", addr, fmt.Sprint(connections))
	require.Equal(b, "connected", load.line())
	c := &contender{name: name, addr: addr, server: server, load: load}
	load.ask("100") // warm up
	return c
}

func (c *contender) stop() {
	c.load.stop()
	c.server.stop()
}

func (c *contender) round(ms int) {
	before := c.server.ask("")
	result := c.load.ask("%d", ms)
	after := c.server.ask("")
	messages := result[0] * float64(ms) / 1000
	c.rate = append(c.rate, result[0])
	c.p50 = append(c.p50, result[1])
	c.p99 = append(c.p99, result[2])
	c.cpu = append(c.cpu, (after[0]-before[0])/messages)
	c.allocs = append(c.allocs, (after[1]-before[1])/messages)
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// BenchmarkEcho compares this library's styles with the standard library. Each connection has one message of 64 bytes
// in flight. The servers share one core and take turns in each round; the load has the other core. It reports the ratio
// of a style's median to the standard library's: of messages per second (more is better), p50, p99 and processor time
// per message (less is better).
//
//	go test -run '^$' -bench Echo -benchtime 1x -timeout 30m
func BenchmarkEcho(b *testing.B) {
	for _, connections := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint("connections=", connections), func(b *testing.B) {
			var all []*contender
			for _, name := range []string{"std", "handlers", "blocking"} {
				c := contend(b, name, connections)
				defer c.stop()
				all = append(all, c)
			}
			b.ResetTimer()
			for range b.N {
				for range 7 {
					for _, c := range all {
						c.round(300)
					}
				}
			}
			std := all[0]
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(median(std.rate), "std-msgs/s")
			for _, c := range all[1:] {
				b.ReportMetric(median(c.rate)/median(std.rate), c.name+"-rate")
				b.ReportMetric(median(c.p50)/median(std.p50), c.name+"-p50")
				b.ReportMetric(median(c.p99)/median(std.p99), c.name+"-p99")
				b.ReportMetric(median(c.cpu)/median(std.cpu), c.name+"-cpu")
				b.ReportMetric(median(c.allocs), c.name+"-allocs/msg")
			}
		})
	}
}

// BenchmarkAccept reports what a connection costs a server with handlers: the allocations from accepting it until its
// first message has been echoed, and the bytes of heap that it occupies while it is idle.
func BenchmarkAccept(b *testing.B) {
	const connections = 10_000
	var allocs, heap []float64
	for range b.N {
		server := startHelper(b, "serve", "handlers")
		addr := server.line()
		server.ask("")
		before := server.ask("")
		load := startHelper(b, "load", addr, fmt.Sprint(connections))
		require.Equal(b, "connected", load.line())
		load.ask("1") // a message is echoed on every connection, so all have been accepted
		after := server.ask("")
		allocs = append(allocs, (after[1]-before[1])/connections)
		heap = append(heap, (after[2]-before[2])/connections)
		load.stop()
		server.stop()
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(allocs), "allocs/conn")
	b.ReportMetric(median(heap), "heapB/idle-conn")
}

// BenchmarkBesideIdle compares the round-trip time of a connection beside 10,000 idle ones with that of a single
// connection. Both take turns in each round. It reports the ratio of the medians.
func BenchmarkBesideIdle(b *testing.B) {
	alone := contend(b, "handlers", 1)
	defer alone.stop()
	beside := contend(b, "handlers", 1)
	defer beside.stop()
	idle := startHelper(b, "load", beside.addr, "10000")
	defer idle.stop()
	require.Equal(b, "connected", idle.line())
	b.ResetTimer()
	for range b.N {
		for range 15 {
			alone.round(200)
			beside.round(200)
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(alone.p50), "alone-µs")
	b.ReportMetric(median(beside.p50)/median(alone.p50), "beside/alone")
}
