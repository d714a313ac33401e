// Load keeps connections to an echo server busy, and measures. It is one thread over its own epoll, so that the load
// is not what is measured. It opens its connections, checks each with one message, prints "ready", and then runs once
// for each line on its standard input.
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
		addr    = flag.String("addr", "", "address of the server")
		conns   = flag.Int("conns", 1, "connections")
		idle    = flag.Int("idle", 0, "further connections that do nothing")
		size    = flag.Int("size", 64, "bytes a message")
		depth   = flag.Int("depth", 1, "messages in flight a connection")
		churn   = flag.Bool("churn", false, "a new connection for every message")
		burst   = flag.Bool("burst", false, "new connections in every run, which all begin at once")
		ramp    = flag.Bool("ramp", false, "new connections in every run, which begin one after another and go on; a run ends when all have had an answer")
		seconds = flag.Float64("seconds", 1, "how long a run lasts")
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
		fmt.Printf("= messages=%d rate=%g p50=%g p99=%g p999=%g max=%g\n", messages, float64(messages)/elapsed.Seconds(),
			shown.quantile(0.5), shown.quantile(0.99), shown.quantile(0.999), shown.quantile(1))
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
