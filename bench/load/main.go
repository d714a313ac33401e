// Load keeps connections to an echo server busy and measures throughput and latency. It is a single thread with an
// epoll loop of its own, so that the server and not the load is the bottleneck. It opens its connections, verifies the
// echo of one message on each, prints "ready", and then runs once for each line of its standard input.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"runtime"
	"time"
)

func main() {
	var (
		addr    = flag.String("addr", "", "`address` of the server")
		conns   = flag.Int("conns", 1, "number of active connections")
		idle    = flag.Int("idle", 0, "number of idle connections")
		size    = flag.Int("size", 64, "bytes per message")
		depth   = flag.Int("depth", 1, "messages in flight per connection")
		churn   = flag.Bool("churn", false, "open a connection for each message")
		burst   = flag.Bool("burst", false, "in each run, open connections that all send their first message at once")
		ramp    = flag.Bool("ramp", false, "in each run, open connections in turn, until each has had an answer")
		seconds = flag.Float64("seconds", 1, "duration of a run, in seconds")
	)
	flag.Parse()
	runtime.LockOSThread()
	tcp, err := net.ResolveTCPAddr("tcp4", *addr)
	check(err)
	l, err := newLoad(tcp, *size, *depth)
	check(err)
	check(l.open(*idle))
	check(l.verify())
	l.leaveIdle()
	run := l.run
	switch {
	case *churn:
		l.churn = *conns
	case *burst:
		run = func(d time.Duration) time.Duration { return l.burst(*conns, d) }
	case *ramp:
		run = func(time.Duration) time.Duration { return l.ramp(*conns) }
	default:
		check(l.open(*conns))
		check(l.verify())
	}
	shown := l.latency
	if *burst || *ramp {
		shown = l.firstLatency
	}
	fmt.Println("= ready")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		elapsed := run(time.Duration(*seconds * float64(time.Second)))
		messages := l.latency.count
		fmt.Printf("= messages=%d rate=%g p50=%g p99=%g p999=%g max=%g\n",
			messages, float64(messages)/elapsed.Seconds(),
			shown.quantile(0.5), shown.quantile(0.99), shown.quantile(0.999), shown.quantile(1))
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
