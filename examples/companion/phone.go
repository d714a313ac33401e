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

// patience is how long a phone may take to receive a message.
const patience = 5 * time.Second

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
	go p.send(gone, s.ended, conn)
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

// send sends what the phone is to show, until it has gone. If it does not take it in time, or the program has ended,
// send closes the connection, which ends control.
func (p *phone) send(gone context.Context, ended <-chan struct{}, conn *websocket.Conn) {
	for {
		select {
		case <-gone.Done():
			conn.CloseNow()
			return
		case <-ended:
			conn.Close(websocket.StatusGoingAway, "The program has ended.")
			return
		case state := <-p.states:
			ctx, cancel := context.WithTimeout(gone, patience)
			err := conn.Write(ctx, websocket.MessageText, []byte(state))
			cancel()
			if err != nil {
				conn.CloseNow()
				return
			}
		}
	}
}
