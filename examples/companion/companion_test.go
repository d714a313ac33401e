package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver/internal/servertest"
)

// TestMain fails the run if a goroutine or a descriptor is left at its end.
func TestMain(m *testing.M) { servertest.Main(m) }

func startShow(t *testing.T) (page string, end func()) {
	t.Helper()
	return runShow(t, newShow(io.Discard))
}

// runShow runs the program. It returns the address of its page, and what ends it and expects that it ends well.
func runShow(t *testing.T, s *show) (page string, end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	pages := make(chan string, 1)
	ended := make(chan error, 1)
	go func() { ended <- s.run(ctx, "127.0.0.1:0", func(page string) { pages <- page }) }()
	end = func() {
		cancel()
		require.NoError(t, servertest.Receive(t, ended))
	}
	return servertest.Receive(t, pages), end
}

// get returns the status and the body of what is served at url.
func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get(url)
	require.NoError(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, string(text)
}

// connect connects a phone, which is shown the slide at once.
func connect(t *testing.T, page string) *websocket.Conn {
	t.Helper()
	conn, _, err := websocket.Dial(servertest.Context(t), page+"socket", nil)
	require.NoError(t, err)
	t.Cleanup(func() { conn.CloseNow() })
	return conn
}

func press(t *testing.T, conn *websocket.Conn, button string) {
	t.Helper()
	require.NoError(t, conn.Write(servertest.Context(t), websocket.MessageText, []byte(button)))
}

func requireShown(t *testing.T, conn *websocket.Conn, state string) {
	t.Helper()
	_, message, err := conn.Read(servertest.Context(t))
	require.NoError(t, err)
	require.Equal(t, state, string(message))
}

func TestPhonesTurnSlides(t *testing.T) {
	page, end := startShow(t)
	status, body := get(t, page)
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, "<button")

	a, b := connect(t, page), connect(t, page)
	requireShown(t, a, "1 of 10")
	requireShown(t, b, "1 of 10")
	press(t, a, "next")
	requireShown(t, a, "2 of 10")
	requireShown(t, b, "2 of 10")
	press(t, b, "something else")
	press(t, b, "back")
	requireShown(t, a, "1 of 10")
	requireShown(t, b, "1 of 10") // before the next state, which would replace it
	press(t, a, "back")           // there is none
	requireShown(t, b, "1 of 10")
	a.CloseNow()
	b.CloseNow()
	end()
}

func TestOnlyTheSecretAddressIsServed(t *testing.T) {
	page, end := startShow(t)
	defer end()
	base := page[:strings.LastIndex(strings.TrimSuffix(page, "/"), "/")]
	const other = "/ABCDEFGHIJKLMNOPQRSTUVWXYZ/"
	for _, path := range []string{"/", "/socket", other, other + "socket"} {
		status, _ := get(t, base+path)
		require.Equal(t, http.StatusNotFound, status, path)
	}
	status, _ := get(t, page+"more")
	require.Equal(t, http.StatusNotFound, status)
}

func TestPageOfAnotherSiteCannotConnect(t *testing.T) {
	page, end := startShow(t)
	defer end()
	header := http.Header{"Origin": {"http://elsewhere.example"}}
	_, _, err := websocket.Dial(servertest.Context(t), page+"socket", &websocket.DialOptions{HTTPHeader: header})
	require.ErrorContains(t, err, "403")
}

func TestLongMessageDisconnectsPhone(t *testing.T) {
	page, end := startShow(t)
	defer end()
	conn := connect(t, page)
	requireShown(t, conn, "1 of 10")
	press(t, conn, strings.Repeat("x", maxMessage+1))
	_, _, err := conn.Read(servertest.Context(t))
	require.Equal(t, websocket.StatusMessageTooBig, websocket.CloseStatus(err))
}

func TestSlowPhoneIsShownTheLastSlide(t *testing.T) {
	page, end := startShow(t)
	defer end()
	slow, fast := connect(t, page), connect(t, page)
	requireShown(t, fast, "1 of 10")
	go func() {
		for range slides {
			fast.Write(context.Background(), websocket.MessageText, []byte("next"))
		}
	}()
	for _, conn := range []*websocket.Conn{fast, slow} {
		for last := ""; last != "10 of 10"; {
			_, message, err := conn.Read(servertest.Context(t))
			require.NoError(t, err)
			last = string(message)
		}
	}
	fast.CloseNow()
	slow.CloseNow()
}

func TestPhonesAreToldThatTheProgramEnds(t *testing.T) {
	page, end := startShow(t)
	conn := connect(t, page)
	requireShown(t, conn, "1 of 10")
	closed := make(chan error, 1)
	go func() {
		_, _, err := conn.Read(context.Background())
		closed <- err
	}()
	end()
	require.Equal(t, websocket.StatusGoingAway, websocket.CloseStatus(servertest.Receive(t, closed)))
}

// vanish makes a websocket by hand, and never answers.
func vanish(t *testing.T, page string) net.Conn {
	t.Helper()
	address, path, _ := strings.Cut(strings.TrimPrefix(page, "http://"), "/")
	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	_, err = fmt.Fprintf(conn, "GET /%ssocket HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", path, address)
	require.NoError(t, err)
	answer := make([]byte, len("HTTP/1.1 101"))
	_, err = io.ReadFull(conn, answer)
	require.NoError(t, err)
	require.Equal(t, "HTTP/1.1 101", string(answer))
	return conn
}

func TestProgramEndsAlthoughAPhoneHasVanished(t *testing.T) {
	page, end := startShow(t)
	vanish(t, page)
	end()
}

func TestPhoneThatHasVanishedIsDisconnected(t *testing.T) {
	s := newShow(io.Discard)
	s.patience = time.Second
	page, end := runShow(t, s)
	defer end()
	there := connect(t, page)
	requireShown(t, there, "1 of 10")
	shown := readOn(there)

	vanished := vanish(t, page)
	require.NoError(t, vanished.SetReadDeadline(time.Now().Add(30*time.Second)))
	_, err := io.Copy(io.Discard, vanished)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
	press(t, there, "next")
	require.Equal(t, "2 of 10", servertest.Receive(t, shown))
	servertest.Eventually(t, func() bool {
		phones := make(chan int)
		s.queue.Post(func() { phones <- len(s.phones) })
		return servertest.Receive(t, phones) == 1
	})
	there.CloseNow()
}

// readOn reads what a phone is shown until the connection ends. A phone that reads answers pings.
func readOn(conn *websocket.Conn) (shown <-chan string) {
	states := make(chan string, slides)
	go func() {
		defer close(states)
		for {
			_, message, err := conn.Read(context.Background())
			if err != nil {
				return
			}
			states <- string(message)
		}
	}()
	return states
}

// A busyOut is the output of a program that is busy for a while, as one whose window is frozen.
type busyOut struct{ time.Duration }

func (o *busyOut) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte("slide 2")) {
		time.Sleep(o.Duration)
	}
	return len(p), nil
}

func TestPhoneThatAnswersStaysWhileTheProgramIsBusy(t *testing.T) {
	const patience = 200 * time.Millisecond
	s := newShow(&busyOut{5 * patience})
	s.patience = patience
	page, end := runShow(t, s)
	defer end()
	conn := connect(t, page)
	requireShown(t, conn, "1 of 10")
	shown := readOn(conn)
	for range 2 * maxPresses {
		press(t, conn, "next")
	}
	for last := ""; last != "10 of 10"; {
		last = servertest.Receive(t, shown)
		require.NotEmpty(t, last, "the phone was disconnected")
	}
	conn.CloseNow()
}

func TestUnfinishedRequestIsClosed(t *testing.T) {
	page, end := startShow(t)
	defer end()
	address, _, _ := strings.Cut(strings.TrimPrefix(page, "http://"), "/")
	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	defer conn.Close()
	_, err = fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: 10\r\n\r\n", address)
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(30*time.Second)))
	_, err = io.ReadAll(conn)
	require.NoError(t, err)
}

func TestAddressForPhonesHasAHost(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:80", "phone.example:80"} {
		got, err := reachable(addr)
		require.NoError(t, err)
		require.Equal(t, addr, got)
	}
	if _, err := localIP(); err != nil {
		return // there is no network
	}
	for _, addr := range []string{":7005", "0.0.0.0:7005", "[::]:7005"} {
		got, err := reachable(addr)
		require.NoError(t, err)
		host, port, err := net.SplitHostPort(got)
		require.NoError(t, err)
		require.Equal(t, "7005", port)
		require.False(t, net.ParseIP(host).IsUnspecified(), got)
	}
}

func TestInvitationShowsAddressAndCode(t *testing.T) {
	var shown bytes.Buffer
	invite(&shown, "http://192.168.1.2:7005/ABC/")
	require.Contains(t, shown.String(), "http://192.168.1.2:7005/ABC/\n")
	require.Greater(t, strings.Count(shown.String(), "▀")+strings.Count(shown.String(), "▄"), 50)
}
