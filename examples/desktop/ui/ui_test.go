package ui

import (
	"bufio"
	"fmt"
	"image/png"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/driver/software"
	"fyne.io/fyne/v2/test"
	"fyne.io/fyne/v2/theme"
	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
)

const patience = 30 * time.Second

// A desk is a window without a display. The test's goroutine is the thread of its user interface: the test driver of
// fyne would run what fyne.Do gets on the goroutine that calls it.
type desk struct {
	*UI
	t      testing.TB
	queue  tcpserver.Queue
	woken  chan struct{}
	window fyne.Window
}

func newDesk(t testing.TB) *desk {
	t.Helper()
	test.NewTempApp(t)
	d := &desk{t: t, woken: make(chan struct{}, 1)}
	d.queue.Wake = func() {
		select {
		case d.woken <- struct{}{}:
		default:
		}
	}
	d.UI = New(d.queue.Post)
	d.window = test.NewTempWindow(t, d.Content())
	d.window.Resize(fyne.NewSize(1000, 640))
	t.Cleanup(d.Close)
	return d
}

// until runs what is queued until a condition holds.
func (d *desk) until(condition func() bool) {
	d.t.Helper()
	timeout := time.After(patience)
	for !condition() {
		select {
		case <-d.woken:
			d.queue.RunPending()
		case <-timeout:
			require.Fail(d.t, "it does not come", "end of the log: %v", d.log.lines[max(0, len(d.log.lines)-10):])
		}
	}
}

// startListening presses the button, and waits until the server listens and the window shows it.
func (d *desk) startListening() {
	d.t.Helper()
	test.Tap(d.listen)
	d.until(func() bool { return d.listen.Text == "Stop" && !d.listen.Disabled() })
}

func (d *desk) dial() *net.TCPConn {
	d.t.Helper()
	conn, err := net.Dial("tcp", d.server.Addr().String())
	require.NoError(d.t, err)
	d.t.Cleanup(func() { conn.Close() })
	require.NoError(d.t, conn.SetDeadline(time.Now().Add(patience)))
	return conn.(*net.TCPConn)
}

func (d *desk) hasLogged(text string) bool {
	for _, line := range d.log.lines {
		if strings.Contains(line.String(), text) {
			return true
		}
	}
	return false
}

// picture writes what the window shows to a file, for a look at it: in the directory that PICTURES names, if any.
func (d *desk) picture(name string, th fyne.Theme) {
	d.t.Helper()
	dir := os.Getenv("PICTURES")
	if dir == "" {
		dir = d.t.TempDir()
	}
	f, err := os.Create(filepath.Join(dir, name))
	require.NoError(d.t, err)
	defer f.Close()
	require.NoError(d.t, png.Encode(f, software.RenderCanvas(d.window.Canvas(), th)))
}

func TestClientIsServedInTheWindow(t *testing.T) {
	d := newDesk(t)
	test.Tap(d.bind)
	d.until(func() bool { return d.bind.Text == "Unbind" && !d.listen.Disabled() })
	d.startListening()
	ann, bob := d.dial(), d.dial()
	d.until(func() bool { return len(d.clients) == 2 })
	io.WriteString(ann, "good m\xc3")
	d.until(func() bool { return d.hasLogged("good m") })
	io.WriteString(ann, "\xb6rning \xe2")
	io.WriteString(ann, "\x9c\x93\n")
	d.until(func() bool { return d.hasLogged("\u00f6rning") && d.hasLogged("\u2713") })

	d.all.SetChecked(false)
	d.until(func() bool { return len(d.listed) == 2 })
	d.list.Select(0)
	d.message.SetText("Lucy can't drink milk.")
	d.until(func() bool { return !d.send.Disabled() })
	test.Tap(d.send)
	line, err := bufio.NewReader(ann).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "Lucy can't drink milk.\n", line)

	d.all.SetChecked(true)
	test.Tap(d.send)
	for _, conn := range []net.Conn{ann, bob} {
		line, err := bufio.NewReader(conn).ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "Lucy can't drink milk.\n", line)
	}
	d.picture("clients.png", theme.DefaultTheme())
	require.NoError(t, bob.Close())
	d.until(func() bool { return len(d.clients) == 1 })
	d.picture("log.png", theme.DefaultTheme())
}

func TestConnectionsWaitUntilTheyAreAccepted(t *testing.T) {
	d := newDesk(t)
	d.automatic.SetChecked(false)
	d.startListening()
	for range 5 {
		d.dial()
	}
	d.until(func() bool { return d.places.filled == 5 })
	require.Empty(t, d.clients)
	test.Tap(d.accept)
	d.until(func() bool { return d.places.filled == 4 && len(d.clients) == 1 })
	d.automatic.SetChecked(true)
	d.until(func() bool { return d.places.filled == 0 && len(d.clients) == 5 })
}

func TestReasonsNotToAcceptLightTheirLamps(t *testing.T) {
	d := newDesk(t)
	d.automatic.SetChecked(false)
	d.startListening()
	d.pause.SetChecked(true)
	d.until(func() bool { return d.lamps[0].on && !d.lamps[1].on && !d.lamps[2].on })
	d.pause.SetChecked(false)
	most := d.server.MaxPendingConnections()
	for range most {
		d.dial()
	}
	d.until(func() bool { return d.places.filled == most && d.lamps[1].on && !d.lamps[0].on && !d.lamps[2].on })
	d.picture("full.png", theme.DefaultTheme())
	test.Tap(d.accept)
	d.until(func() bool { return !d.lamps[1].on })
}

func TestPlacesOfConnectionsThatWentAwayAreShownEmpty(t *testing.T) {
	d := newDesk(t)
	d.automatic.SetChecked(false)
	d.startListening()
	conns := []*net.TCPConn{d.dial(), d.dial()}
	d.until(func() bool { return d.places.filled == 2 })
	for _, conn := range conns {
		require.NoError(t, conn.SetLinger(0))
		require.NoError(t, conn.Close())
	}
	d.until(func() bool { return d.places.filled == 0 && d.accept.Disabled() })
}

func TestChosenClientStaysChosenWhenAnotherLeaves(t *testing.T) {
	d := newDesk(t)
	d.startListening()
	first := d.dial()
	d.until(func() bool { return len(d.clients) == 1 })
	second := d.dial()
	d.until(func() bool { return len(d.listed) == 2 })
	d.all.SetChecked(false)
	d.list.Select(1)
	require.NoError(t, first.Close())
	d.until(func() bool { return len(d.clients) == 1 && !d.send.Disabled() })
	require.Same(t, d.clients[0], d.chosen)
	test.Tap(d.send)
	line, err := bufio.NewReader(second).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "Lucy can't drink milk.\n", line)
	require.NoError(t, second.Close())
	d.until(func() bool { return d.chosen == nil && d.send.Disabled() })
}

// newStaleDesk returns a window that shows two clients, of which the first has ended. Only the test refreshes it.
func newStaleDesk(t *testing.T) (d *desk, second *net.TCPConn) {
	t.Helper()
	d = newDesk(t)
	d.startListening()
	first := d.dial()
	d.until(func() bool { return len(d.clients) == 1 })
	second = d.dial()
	d.until(func() bool { return len(d.clients) == 2 })
	d.all.SetChecked(false)
	d.until(func() bool { return d.send.Disabled() && d.timer == nil })
	d.shown = time.Now().Add(time.Hour)
	require.NoError(t, first.Close())
	d.until(func() bool { return len(d.clients) == 1 })
	return d, second
}

// tapRow taps where a row of the list of clients is.
func (d *desk) tapRow(i int) {
	height := newRow().MinSize().Height + theme.Padding()
	list := fyne.CurrentApp().Driver().AbsolutePositionForObject(d.list)
	test.TapCanvas(d.window.Canvas(), list.AddXY(10, (float32(i)+0.5)*height))
}

func TestTapChoosesTheClientThatIsSeen(t *testing.T) {
	d, second := newStaleDesk(t)
	d.tapRow(1)
	require.Same(t, d.clients[0], d.chosen)
	d.refresh()
	require.Same(t, d.clients[0], d.chosen)
	test.Tap(d.send)
	line, err := bufio.NewReader(second).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "Lucy can't drink milk.\n", line)
}

func TestTapOnAClientThatHasEndedChoosesNoOther(t *testing.T) {
	d, _ := newStaleDesk(t)
	d.tapRow(0)
	require.NotSame(t, d.clients[0], d.chosen)
	d.refresh()
	require.Nil(t, d.chosen)
	require.True(t, d.send.Disabled())
}

func TestFrozenWindowLosesNothing(t *testing.T) {
	d := newDesk(t)
	d.freeze = 300 * time.Millisecond
	d.startListening()
	const clients = 50 // more than may be pending
	sent := make(chan error, clients)
	addr := d.server.Addr().String()
	test.Tap(d.frozen)
	for i := range clients {
		go func() {
			conn, err := net.Dial("tcp", addr)
			if err == nil {
				_, err = fmt.Fprintf(conn, "client %d\n", i)
				conn.Close()
			}
			sent <- err
		}()
	}
	for i := range clients {
		d.until(func() bool { return d.hasLogged(fmt.Sprintf(": client %d", i)) })
		require.NoError(t, <-sent)
	}
	d.until(func() bool { return len(d.clients) == 0 })
	require.EqualValues(t, clients, d.server.Stats().Accepted)
}

func TestBindErrorIsShown(t *testing.T) {
	d := newDesk(t)
	d.host.SetText("192.0.2.1") // nobody's
	test.Tap(d.bind)
	d.until(func() bool { return d.hasLogged("Bind: ") && !d.bind.Disabled() })
	require.False(t, d.server.IsBound())
	d.host.SetText("127.0.0.1")
	d.startListening()
}

func TestQuitWaitsForClients(t *testing.T) {
	d := newDesk(t)
	d.startListening()
	conn := d.dial()
	d.until(func() bool { return len(d.clients) == 1 })
	d.sendMessage()
	ended := false
	d.Quit(func() { ended = true })
	require.False(t, ended)
	d.until(func() bool { return ended })
	require.Empty(t, d.clients)
	received, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Equal(t, "Lucy can't drink milk.\n", string(received))
	require.Zero(t, d.queue.RunPending(), "the toolkit is called after the end")
}

func TestQuitEndsOnceAndNotAfterClose(t *testing.T) {
	d := newDesk(t)
	d.startListening()
	ends := 0
	d.Quit(func() { ends++ })
	d.Quit(func() { ends++ })
	d.until(func() bool { return ends > 0 })
	require.Equal(t, 1, ends)

	d = newDesk(t)
	d.startListening()
	d.Quit(func() { ends++ })
	d.Close()
	time.Sleep(100 * time.Millisecond)
	d.queue.RunPending()
	require.Equal(t, 1, ends)
}

// fyne.Do runs functions at once, on any goroutine, when the loop has ended: beside Close. The race detector sees what
// is not guarded.
func TestFunctionsThatRunBesideCloseAreHarmless(t *testing.T) {
	test.NewTempApp(t)
	var queue tcpserver.Queue
	var ended atomic.Bool // the loop
	u := New(func(f func()) {
		if ended.Load() {
			f()
		} else {
			queue.Post(f)
		}
	})
	require.NoError(t, u.ListenOn("127.0.0.1:0"))
	conn, err := net.Dial("tcp", u.Addr())
	require.NoError(t, err)
	defer conn.Close()
	sent := make(chan error)
	go func() {
		var err error
		for line := []byte("hello\n"); err == nil; {
			_, err = conn.Write(line)
		}
		sent <- err
	}()
	for u.received == 0 {
		queue.RunPending()
		time.Sleep(time.Millisecond)
	}
	ended.Store(true)
	queue.RunPending()
	time.Sleep(100 * time.Millisecond) // others run functions
	u.Close()
	require.Error(t, <-sent)
}

func TestNothingIsCalledAfterClose(t *testing.T) {
	d := newDesk(t)
	d.startListening()
	conn := d.dial()
	d.until(func() bool { return len(d.clients) == 1 })
	io.WriteString(conn, "too late\n")
	d.Close()
	_, err := io.ReadAll(conn)
	require.NoError(t, err)
	d.queue.RunPending()
	require.False(t, d.hasLogged("too late"))
	require.False(t, d.hasLogged("has gone"))
}

func TestPlacesAndLampsAreInTheColoursOfTheTheme(t *testing.T) {
	d := newDesk(t)
	d.places.fill(1)
	d.lamps[0].set(true)
	for _, th := range []fyne.Theme{test.NewTheme(), theme.DefaultTheme()} {
		test.ApplyTheme(t, th)
		require.Equal(t, theme.Color(theme.ColorNamePrimary), d.places.squares[0].FillColor)
		require.Equal(t, theme.Color(theme.ColorNameInputBackground), d.places.squares[1].FillColor)
		require.Equal(t, theme.Color(theme.ColorNameError), d.lamps[0].light.FillColor)
		require.Equal(t, theme.Color(theme.ColorNameInputBackground), d.lamps[1].light.FillColor)
	}
}

func TestDecoderKeepsSplitCharacters(t *testing.T) {
	text := "a\u00e4\u20ac\U0001f600b"
	for cut := range len(text) {
		var d decoder
		require.Equal(t, text, d.add([]byte(text[:cut]))+d.add([]byte(text[cut:]))+d.end())
	}
	var d decoder
	require.Equal(t, "x\uFFFD", d.add([]byte("x\xff")))
	require.Equal(t, "y", d.add([]byte("y\xe2\x82")))
	require.Equal(t, "\uFFFD", d.end())
}

func TestLogKeepsTheLastLines(t *testing.T) {
	test.NewTempApp(t)
	l := newLog()
	for i := range 10 * maxLines {
		l.addLines("", fmt.Sprintf("line %d\r\n", i))
	}
	require.LessOrEqual(t, len(l.lines), 2*maxLines)
	require.Equal(t, fmt.Sprintf("line %d", 10*maxLines-1), l.lines[len(l.lines)-1].String())
	l.addLines("", strings.Repeat("x\n", 100_000)+"last")
	require.LessOrEqual(t, len(l.lines), 3*maxLines)
	l.addLines("", strings.Repeat("y", 1<<20))
	require.Less(t, len(l.lines[len(l.lines)-1].String()), 1000)
}

// A list that gets shorter between refreshes is laid out where it has no lines any more.
func TestLogShowsTheSameLinesUntilItIsRefreshed(t *testing.T) {
	test.NewTempApp(t)
	l := newLog()
	for range 2 * maxLines {
		l.add("", "earlier")
	}
	test.NewTempWindow(t, l.list).Resize(fyne.NewSize(400, 400))
	l.refresh()
	require.Equal(t, 2*maxLines, l.list.Length())
	l.add("", "later")
	require.Less(t, len(l.lines), 2*maxLines)
	require.Equal(t, 2*maxLines, l.list.Length())
	l.refresh()
	require.Equal(t, len(l.lines), l.list.Length())
}
