package soak

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pullaccept/tcpserver/internal/servertest"
)

// clients are many clients of a few echo servers, in a process of their own, because both ends of all connections would
// be more descriptors than a process may have.
type clients struct {
	addrs []string
	conns []*net.TCPConn // one for each client; a client that ends its connection makes another
	bytes []byte         // random ones, of which each client sends others

	rounds, dials atomic.Int64
	failed        atomic.Pointer[error] // the first failure
}

// maxMessage is the length of the longest message.
const maxMessage = 16 << 10

// runClients is the role of the clients. Its arguments are how many there are, and the addresses of the servers. It
// obeys these lines:
//
//	connect      each client connects and makes a round trip
//	churn TIME   each client talks, rests, leaves and connects again, for so long
//	close        each client leaves
//
// The answer is "ok" with the numbers of round trips and connections so far, or what has failed first.
func runClients(args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	c := &clients{addrs: args[1:], conns: make([]*net.TCPConn, n), bytes: make([]byte, 4*maxMessage)}
	rand.NewChaCha8([32]byte{}).Read(c.bytes)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		word, arg, _ := strings.Cut(lines.Text(), " ")
		switch word {
		case "connect":
			c.each(64, c.connect) // so many at a time that the backlog always has room
		case "churn":
			d, err := time.ParseDuration(arg)
			if err != nil {
				return err
			}
			end := time.Now().Add(d)
			c.each(n, func(i int) error { return c.churn(i, end) })
		case "close":
			c.each(n, func(i int) error { return c.conns[i].Close() })
		}
		if err := c.failed.Load(); err != nil {
			fmt.Println(*err)
		} else {
			fmt.Println("ok", c.rounds.Load(), c.dials.Load())
		}
	}
	return lines.Err()
}

// each calls do for each client, on that many goroutines, until one fails.
func (c *clients) each(goroutines int, do func(i int) error) {
	var next atomic.Int64
	var all sync.WaitGroup
	for range goroutines {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(c.conns) && c.failed.Load() == nil; i = int(next.Add(1)) - 1 {
				if err := do(i); err != nil {
					err = fmt.Errorf("client %d: %w", i, err)
					c.failed.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	all.Wait()
}

// connect connects client i, and checks that it is served.
func (c *clients) connect(i int) error {
	conn, err := net.Dial("tcp", c.addrs[i%len(c.addrs)])
	if err != nil {
		return err
	}
	c.dials.Add(1)
	c.conns[i] = conn.(*net.TCPConn)
	return c.talk(i, []byte("Hello"))
}

// talk makes a round trip.
func (c *clients) talk(i int, message []byte) error {
	conn := c.conns[i]
	if err := conn.SetDeadline(time.Now().Add(servertest.Patience)); err != nil {
		return err
	}
	if _, err := conn.Write(message); err != nil {
		return err
	}
	c.rounds.Add(1)
	return equal(conn, message)
}

// churn lets client i do at random what clients do.
func (c *clients) churn(i int, end time.Time) error {
	random := rand.New(rand.NewPCG(uint64(i), 0))
	message := c.bytes[i%(3*maxMessage):][:maxMessage]
	for time.Now().Before(end) {
		time.Sleep(min(time.Duration(random.IntN(4000))*time.Millisecond, time.Until(end)))
		for range random.IntN(4) {
			if err := c.talk(i, message[:1+random.IntN(1+random.IntN(len(message)))]); err != nil {
				return fmt.Errorf("talk: %w", err)
			}
		}
		if random.IntN(2) == 0 {
			if err := c.leave(i, random, message); err != nil {
				return fmt.Errorf("leave: %w", err)
			}
			if err := c.connect(i); err != nil {
				return fmt.Errorf("connect: %w", err)
			}
		}
	}
	return nil
}

// leave ends the connection of client i in one of the ways in which connections end.
func (c *clients) leave(i int, random *rand.Rand, message []byte) error {
	conn := c.conns[i]
	defer conn.Close()
	switch random.IntN(5) {
	case 0: // an end of stream
		return nil
	case 1: // a reset
		return conn.SetLinger(0)
	case 2: // something is under way
		_, err := conn.Write(message)
		return err
	case 3: // a reset, and something is under way
		_, err := conn.Write(message)
		return errors.Join(err, conn.SetLinger(0))
	}
	// A half-close: the server answers, and then closes its side, too.
	if err := conn.SetDeadline(time.Now().Add(servertest.Patience)); err != nil {
		return err
	}
	if _, err := conn.Write(message); err != nil {
		return err
	}
	if err := conn.CloseWrite(); err != nil {
		return err
	}
	if err := equal(conn, message); err != nil {
		return err
	}
	n, err := io.Copy(io.Discard, conn)
	if err == nil && n > 0 {
		return fmt.Errorf("%d bytes too many", n)
	}
	return err
}
