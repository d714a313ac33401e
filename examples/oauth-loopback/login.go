package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/pullaccept/tcpserver"
)

// A grant is what the provider exchanges for a token.
type grant struct {
	Code        string
	Verifier    string // of the code challenge
	RedirectURI string // the request for the token has to repeat it
}

// A request is one login.
type request struct {
	state    string // proves that a redirect answers this request
	verifier string
	redirect string

	once    sync.Once
	settled chan struct{} // closed when there is a result
	result  result
}

type result struct {
	code string
	err  error
}

// settle ends the login with a result and returns it, or the one that the login has already, so that the browser and
// the caller of login are told the same.
func (r *request) settle(got result) result {
	r.once.Do(func() {
		r.result = got
		close(r.settled)
	})
	return r.result
}

// login calls open with the address of the provider's page, waits until the browser is sent back from there, and
// returns what came with it. The address that the browser is sent to exists no longer than that.
func login(ctx context.Context, page *url.URL, client string, open func(page string) error) (*grant, error) {
	var server tcpserver.TcpServer
	if err := server.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	r := &request{
		state: rand.Text(), verifier: rand.Text() + rand.Text(), // 52 characters; RFC 7636 wants 43 to 128
		redirect: fmt.Sprintf("http://%v/callback", server.Addr()), // the name localhost may be somebody else's
		settled:  make(chan struct{}),
	}
	web := &http.Server{Handler: r.handler(), ReadTimeout: 5 * time.Second, MaxHeaderBytes: 16 << 10}
	served := make(chan error, 1)
	go func() { served <- web.Serve(&server) }()
	defer func() {
		// The browser gets the page that it is being sent, in reasonable time.
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if web.Shutdown(ctx) != nil {
			web.Close()
		}
		<-served
	}()
	if err := open(r.page(page, client)); err != nil {
		r.settle(result{err: err})
	}
	select {
	case <-r.settled:
	case <-ctx.Done():
	}
	got := r.settle(result{err: ctx.Err()})
	if got.err != nil {
		return nil, got.err
	}
	return &grant{got.code, r.verifier, r.redirect}, nil
}

// page returns the address of the provider's page for this request.
func (r *request) page(provider *url.URL, client string) string {
	challenge := sha256.Sum256([]byte(r.verifier))
	page := *provider
	q := page.Query()
	q.Set("response_type", "code")
	q.Set("client_id", client)
	q.Set("redirect_uri", r.redirect)
	q.Set("state", r.state)
	q.Set("code_challenge", base64.RawURLEncoding.EncodeToString(challenge[:]))
	q.Set("code_challenge_method", "S256")
	page.RawQuery = q.Encode()
	return page.String()
}

func (r *request) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /callback", r.redirected)
	return mux
}

// redirected answers the browser. A redirect without the state may come from any page that the user has open, so it
// changes nothing.
func (r *request) redirected(w http.ResponseWriter, req *http.Request) {
	q := req.URL.Query()
	if subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(r.state)) == 0 {
		http.Error(w, "This is not the answer to a login that was begun here.", http.StatusBadRequest)
		return
	}
	var got result
	switch {
	case q.Get("error") != "":
		got.err = fmt.Errorf("the provider refuses: %s %s", q.Get("error"), q.Get("error_description"))
	case q.Get("code") == "":
		got.err = errors.New("the provider has sent no code")
	default:
		got.code = q.Get("code")
	}
	got = r.settle(got) // an earlier result stays if the browser loads the page again, or comes too late
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.Header().Set("Connection", "close")
	text := "You are logged in."
	if got.err != nil {
		text = "The login has failed."
	}
	fmt.Fprintf(w, donePage, text)
}

const donePage = `<!doctype html>
<meta name="viewport" content="width=device-width">
<title>Login</title>
<style>
body { font: 1.2em system-ui, sans-serif; display: grid; place-content: center; height: 90vh; text-align: center }
</style>
<h1>%s</h1>
<p>You may close this window.</p>
`
