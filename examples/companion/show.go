package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/pullaccept/tcpserver"
)

// slides is how many the program has. They are numbered from 1.
const slides = 10

// maxConnections leaves room for a few phones, which open two or three each.
const maxConnections = 32

// patience is how long a phone may take to receive a message or to answer a ping. It is pinged as often.
const patience = 10 * time.Second

// A show is the program that is controlled. It is used on the goroutine that runs its queue, and nowhere else, as a
// program with a user interface is: net/http's goroutines post to the queue.
type show struct {
	queue    tcpserver.Queue
	out      io.Writer
	patience time.Duration
	slide    int
	phones   map[*phone]struct{}
	ended    chan struct{} // closed when the program ends
}

func newShow(out io.Writer) *show {
	return &show{
		out: out, patience: patience, slide: 1, phones: make(map[*phone]struct{}), ended: make(chan struct{}),
	}
}

// run serves until ctx ends. It calls invite with the address of the page.
func (s *show) run(ctx context.Context, addr string, invite func(page string)) error {
	server := new(tcpserver.TcpServer)
	server.SetMaxConnections(maxConnections)
	if err := server.Listen("tcp", addr); err != nil {
		return err
	}
	// Others on the network can reach the server, so the address has a secret. Whoever can listen to the network's
	// traffic still sees it: what must not be seen needs TLS.
	secret := rand.Text()
	web := &http.Server{
		Handler:        handler(s, secret),
		ReadTimeout:    5 * time.Second, // a websocket has none
		IdleTimeout:    time.Minute,
		MaxHeaderBytes: 16 << 10,
	}
	served := make(chan error, 1)
	go func() { served <- web.Serve(server) }()
	invite(fmt.Sprintf("http://%v/%s/", server.Addr(), secret))
	s.queue.Run(ctx)
	close(s.ended)
	web.Close()
	<-served
	// The websockets belong to net/http no more. A phone that does not answer does not hold up the end for long.
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if server.Shutdown(ctx) != nil {
		server.CloseConnections()
		return server.Shutdown(context.Background())
	}
	return nil
}

func (s *show) join(p *phone) {
	s.phones[p] = struct{}{}
	p.tell(s.state())
	fmt.Fprintf(s.out, "phones: %d\n", len(s.phones))
}

func (s *show) leave(p *phone) {
	delete(s.phones, p)
	fmt.Fprintf(s.out, "phones: %d\n", len(s.phones))
}

// turn shows the slide that is so many further, and has all phones show it.
func (s *show) turn(by int) {
	s.slide = min(max(s.slide+by, 1), slides)
	for p := range s.phones {
		p.tell(s.state())
	}
	fmt.Fprintf(s.out, "slide %d of %d\n", s.slide, slides)
}

func (s *show) state() string { return fmt.Sprintf("%d of %d", s.slide, slides) }
