package main

import (
	"context"
	_ "embed"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

//go:embed page.html
var page []byte

// maxMessage is the length of the longest message of a phone, in bytes.
const maxMessage = 64

// handler serves the page and its websocket to those who know the secret.
func handler(s *show, secret string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /"+secret+"/{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Referrer-Policy", "no-referrer")
		w.Write(page)
	})
	mux.HandleFunc("GET /"+secret+"/socket", func(w http.ResponseWriter, r *http.Request) {
		if conn, err := websocket.Accept(w, r, nil); err == nil { // else the phone was told
			control(s, conn)
		}
	})
	return mux
}

// maxPresses is how many buttons may be pressed before the program has reacted to the first.
const maxPresses = 32

// A phone is a page that is connected.
type phone struct {
	conn    *websocket.Conn
	states  chan string  // the latest one, until it is sent
	pressed atomic.Int32 // buttons that the program has not reacted to
}

// tell has the phone show a state. A phone that is slow misses earlier ones. Only the show's goroutine calls it.
func (p *phone) tell(state string) {
	select {
	case <-p.states:
	default:
	}
	p.states <- state
}

// control lets a phone control the show until it goes or the program ends. It never waits for the show's goroutine:
// pings are answered only while it reads.
func control(s *show, conn *websocket.Conn) {
	conn.SetReadLimit(maxMessage)
	p := &phone{conn: conn, states: make(chan string, 1)}
	gone, leave := context.WithCancel(context.Background())
	defer leave()
	go p.send(gone, s)
	go p.ping(gone, s.patience)
	s.queue.Post(func() { s.join(p) })
	defer s.queue.Post(func() { s.leave(p) })
	for {
		_, message, err := conn.Read(context.Background())
		if err != nil {
			return
		}
		switch string(message) {
		case "next":
			p.turn(s, +1)
		case "back":
			p.turn(s, -1)
		}
	}
}

// turn has the show's goroutine turn the slides. A press is lost if the program has not reacted to many before it.
func (p *phone) turn(s *show, by int) {
	if p.pressed.Load() == maxPresses {
		return
	}
	p.pressed.Add(1)
	s.queue.Post(func() {
		p.pressed.Add(-1)
		s.turn(by)
	})
}

// send sends what the phone is to show, until it has gone. If the phone does not take that in time, or the program has
// ended, send closes the connection, which ends control.
func (p *phone) send(gone context.Context, s *show) {
	for {
		select {
		case <-gone.Done():
			p.conn.CloseNow()
			return
		case <-s.ended:
			p.conn.Close(websocket.StatusGoingAway, "The program has ended.")
			return
		case state := <-p.states:
			err := inTime(gone, s.patience, func(ctx context.Context) error {
				return p.conn.Write(ctx, websocket.MessageText, []byte(state))
			})
			if err != nil {
				p.conn.CloseNow()
				return
			}
		}
	}
}

// ping pings the phone, which says nothing more if it has left the network, until it does not answer in time: then ping
// closes the connection.
func (p *phone) ping(gone context.Context, patience time.Duration) {
	tick := time.NewTicker(patience)
	defer tick.Stop()
	for {
		select {
		case <-gone.Done():
			return
		case <-tick.C:
			if inTime(gone, patience, p.conn.Ping) != nil {
				p.conn.CloseNow()
				return
			}
		}
	}
}

// inTime calls f with a context that ends after some time.
func inTime(ctx context.Context, limit time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return f(ctx)
}
