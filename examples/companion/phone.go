package main

import (
	"context"
	_ "embed"
	"net/http"
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

// A phone is a page that is connected.
type phone struct {
	states chan string // the latest one, until it is sent
}

// tell has the phone show a state. A phone that is slow misses earlier ones. Only the show's goroutine calls it.
func (p *phone) tell(state string) {
	select {
	case <-p.states:
	default:
	}
	p.states <- state
}

// control lets a phone control the show until it goes or the program ends.
func control(s *show, conn *websocket.Conn) {
	conn.SetReadLimit(maxMessage)
	p := &phone{states: make(chan string, 1)}
	gone, leave := context.WithCancel(context.Background())
	defer leave()
	go p.send(gone, s, conn)
	s.do(func() { s.join(p) })
	defer s.do(func() { s.leave(p) })
	for {
		_, message, err := conn.Read(context.Background())
		if err != nil {
			return
		}
		switch string(message) {
		case "next":
			s.do(func() { s.turn(+1) })
		case "back":
			s.do(func() { s.turn(-1) })
		}
	}
}

// send sends what the phone is to show, until it has gone, and pings it: a phone that has left the network says nothing
// more. If it does not take or answer that in time, or the program has ended, send closes the connection, which ends
// control.
func (p *phone) send(gone context.Context, s *show, conn *websocket.Conn) {
	ping := time.NewTicker(s.patience)
	defer ping.Stop()
	for {
		var err error
		select {
		case <-gone.Done():
			err = gone.Err()
		case <-s.ended:
			conn.Close(websocket.StatusGoingAway, "The program has ended.")
			return
		case state := <-p.states:
			err = inTime(gone, s.patience, func(ctx context.Context) error {
				return conn.Write(ctx, websocket.MessageText, []byte(state))
			})
		case <-ping.C:
			err = inTime(gone, s.patience, conn.Ping)
		}
		if err != nil {
			conn.CloseNow()
			return
		}
	}
}

// inTime calls f with a context that ends after some time.
func inTime(ctx context.Context, limit time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return f(ctx)
}
