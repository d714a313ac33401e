// Package ui is the window of the example. It does not import fyne's package app, so that its tests need no display.
//
// Its handlers need no mutex: those of the server and of its sockets run on the thread of the user interface, because
// the server's Executor brings them there.
package ui

import (
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/layout"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"github.com/pullaccept/tcpserver"
)

// A UI is the window's content and the server behind it. It is used on the thread of the user interface.
type UI struct {
	exec     tcpserver.Executor
	server   *tcpserver.TcpServer
	clients  []*client
	listed   []*client // the clients when refresh was called last, which is what the list shows
	chosen   *client   // in the list; nil if none is
	received uint64    // from all clients, in bytes
	paused   bool
	busy     bool        // binding, or beginning to listen
	shown    time.Time   // when refresh was called last
	timer    *time.Timer // that calls it next; nil if none does
	due      time.Time   // when that is
	closed   bool        // Quit or Close was called
	freeze   time.Duration

	gate sync.Mutex // held while a function of the server or of a timer runs; guards over
	over bool       // Close was called: no function runs any more

	host, port, message   *widget.Entry
	bind, listen          *widget.Button
	accept, frozen, send  *widget.Button
	automatic, pause, all *widget.Check
	places                *places
	waiting, status       *widget.Label
	lamps                 [3]*lamp
	list                  *widget.List
	log                   *log
	content               fyne.CanvasObject
}

// New returns the content of a window. exec is the toolkit's way to run a function on its thread, such as fyne.Do.
func New(exec tcpserver.Executor) *UI {
	u := &UI{freeze: 5 * time.Second}
	u.exec = func(f func()) { exec(func() { u.run(f) }) }
	u.server = &tcpserver.TcpServer{
		Executor:             u.exec,
		CloseTimeout:         2 * time.Second, // a client that does not read must not hold up the end
		NewConnectionHandler: u.arrived,
		AcceptErrorHandler:   func(_ *tcpserver.TcpServer, err error) { u.report("Accepting failed", err) },
	}
	u.content = u.build()
	u.refresh()
	return u
}

// run runs f on the thread of the user interface, unless Close was called. Once fyne's loop has ended, fyne.Do runs f
// on the goroutine that calls it, beside Close: that is what the lock is for.
func (u *UI) run(f func()) {
	u.gate.Lock()
	defer u.gate.Unlock()
	if !u.over {
		f()
	}
}

// Content returns what the window shows.
func (u *UI) Content() fyne.CanvasObject { return u.content }

// Addr returns the address that the server listens on.
func (u *UI) Addr() string { return u.server.Addr().String() }

// Close closes the server and its connections. It is called before the toolkit ends, or after its loop has, but not in
// a handler. No handler runs after it.
func (u *UI) Close() {
	u.gate.Lock()
	defer u.gate.Unlock()
	u.over = true
	u.stopRefreshing()
	u.server.Close()
	for _, c := range u.clients {
		c.socket.SetHandlers(nil)
		c.socket.Close()
	}
	u.clients = nil
}

// Quit closes the server and its connections, and calls then, which may end the toolkit, when the server has nothing
// more for it to do: the clients have what was sent to them, and the last handler has returned. A second Quit does
// nothing.
func (u *UI) Quit(then func()) {
	if u.closed {
		return
	}
	u.stopRefreshing()
	u.server.CloseAsync(func(*tcpserver.TcpServer, error) { then() })
	for _, c := range u.clients {
		c.socket.Close()
	}
}

func (u *UI) stopRefreshing() {
	u.closed = true
	if u.timer != nil {
		u.timer.Stop()
	}
}

func (u *UI) build() fyne.CanvasObject {
	u.host, u.port, u.message = widget.NewEntry(), widget.NewEntry(), widget.NewEntry()
	u.host.SetText("127.0.0.1")
	u.port.SetText("0")
	u.message.SetText("Lucy can't drink milk.")
	u.message.OnSubmitted = func(string) { u.sendMessage() }
	u.bind, u.listen = widget.NewButton("Bind", u.toggleBound), widget.NewButton("Listen", u.toggleListening)
	u.listen.Importance = widget.HighImportance
	u.accept = widget.NewButton("Accept next", u.acceptNext)
	u.frozen = widget.NewButton("Freeze the window for five seconds", u.freezeWindow)
	u.send = widget.NewButtonWithIcon("Send", theme.MailSendIcon(), u.sendMessage)
	u.automatic = widget.NewCheck("Accept automatically", func(on bool) {
		if on {
			u.acceptAll()
		}
		u.changed()
	})
	u.automatic.Checked = true
	u.pause = widget.NewCheck("Pause accepting", u.setPaused)
	u.all = widget.NewCheck("to all", func(bool) { u.changed() })
	u.all.Checked = true
	u.waiting, u.status = widget.NewLabel(""), widget.NewLabel("")
	u.places = newPlaces(u.server.MaxPendingConnections())
	u.lamps = [3]*lamp{newLamp("Paused"), newLamp("Queue full"), newLamp("Out of descriptors or memory")}
	u.log = newLog()
	u.list = widget.NewList(func() int { return len(u.listed) }, newRow, u.updateRow)
	u.list.OnSelected = func(i widget.ListItemID) { u.choose(u.listed[i]) }

	portField := container.NewGridWrap(fyne.NewSize(90, u.port.MinSize().Height), u.port)
	address := container.NewBorder(nil, nil, widget.NewLabel("Address"),
		container.NewHBox(widget.NewLabel("Port"), portField, u.bind, u.listen), u.host)
	waiting := widget.NewCard("", "", container.NewVBox(
		heading("Waiting to be accepted"),
		u.places,
		container.NewHBox(u.waiting, layout.NewSpacer(), u.accept),
		container.NewHBox(u.automatic, u.pause),
		widget.NewSeparator(),
		widget.NewLabel("Not accepting because:"),
		container.NewHBox(u.lamps[0], layout.NewSpacer(), u.lamps[1], layout.NewSpacer(), u.lamps[2]),
		u.frozen,
	))
	clients := container.NewBorder(heading("Clients"), nil, nil, nil, u.list)
	left := container.NewBorder(waiting, nil, nil, nil, clients)
	right := container.NewBorder(heading("Log"), nil, nil, nil, u.log.list)
	panes := container.NewHSplit(left, right)
	panes.Offset = 0.48
	message := container.NewBorder(nil, nil, widget.NewLabel("Message"), container.NewHBox(u.all, u.send), u.message)
	bottom := container.NewVBox(widget.NewSeparator(), message, u.status)
	return container.NewPadded(container.NewBorder(
		container.NewVBox(address, widget.NewSeparator()), bottom, nil, nil, panes))
}

func heading(text string) fyne.CanvasObject {
	return widget.NewLabelWithStyle(text, fyne.TextAlignLeading, fyne.TextStyle{Bold: true})
}

const (
	// refreshTime is how often the window is refreshed at most. Nobody reads faster, and laying out text takes long.
	refreshTime = 50 * time.Millisecond

	// lookTime is how often it is refreshed while connections wait: nobody is told of those that go away.
	lookTime = time.Second
)

// changed has the window show what is now so, once for all changes that are made meanwhile.
func (u *UI) changed() { u.refreshAfter(max(0, refreshTime-time.Since(u.shown))) }

// refreshAfter refreshes the window after some time, unless it will be refreshed earlier. The timer's goroutine asks
// the toolkit, because some toolkits run a function at once if their own thread asks.
func (u *UI) refreshAfter(wait time.Duration) {
	at := time.Now().Add(wait)
	if u.closed || u.timer != nil && u.due.Before(at) {
		return
	}
	if u.timer != nil {
		u.timer.Stop()
	}
	u.due = at
	u.timer = time.AfterFunc(wait, func() { u.exec(u.refresh) })
}

// refresh shows what is now so.
func (u *UI) refresh() {
	if u.closed {
		return
	}
	u.timer, u.shown = nil, time.Now()
	s := u.server
	pending, most := s.PendingConnections(), s.MaxPendingConnections()
	u.places.fill(pending)
	show(u.waiting, fmt.Sprintf("%d of %d", pending, most))
	full := pending >= most
	u.lamps[0].set(u.paused)
	u.lamps[1].set(full)
	u.lamps[2].set(s.IsListening() && !u.paused && !full && !s.IsAccepting())
	setText(u.bind, "Unbind", "Bind", s.IsBound())
	setText(u.listen, "Stop", "Listen", s.IsListening())
	setEnabled(u.bind, !u.busy && !s.IsListening())
	setEnabled(u.listen, !u.busy)
	setEnabled(u.host, !u.busy && !s.IsBound())
	setEnabled(u.port, !u.busy && !s.IsBound())
	setEnabled(u.accept, pending > 0)
	u.listClients()
	setEnabled(u.send, len(u.clients) > 0 && (u.all.Checked || u.chosen != nil))
	u.log.refresh()
	show(u.status, u.state())
	if pending > 0 {
		u.refreshAfter(lookTime)
	}
}

// state describes the server in a line.
func (u *UI) state() string {
	s, stats := u.server, u.server.Stats()
	text := "closed"
	switch {
	case s.IsListening():
		text = "listening on " + s.Addr().String()
	case s.IsBound():
		text = "bound to " + s.Addr().String()
	}
	text += fmt.Sprintf("  ·  clients: %d  ·  accepted: %d  ·  received: %s",
		len(u.clients), stats.Accepted, size(u.received))
	if err := s.ErrorString(); err != "" {
		text += "  ·  " + err
	}
	return text
}

func setText(b *widget.Button, on, off string, isOn bool) {
	text := off
	if isOn {
		text = on
	}
	if b.Text != text {
		b.SetText(text)
	}
}

func setEnabled(w fyne.Disableable, on bool) {
	switch {
	case on && w.Disabled():
		w.Enable()
	case !on && !w.Disabled():
		w.Disable()
	}
}

func (u *UI) address() string { return net.JoinHostPort(u.host.Text, u.port.Text) }

// ListenOn listens on an address, HOST:PORT. It waits until a name is looked up.
func (u *UI) ListenOn(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	u.host.SetText(host)
	u.port.SetText(port)
	if err := u.server.Listen("tcp", address); err != nil {
		return err
	}
	u.showPort()
	u.say("Listening on: %v", u.server.Addr())
	return nil
}

func (u *UI) toggleBound() {
	if u.server.IsBound() {
		u.stop()
		return
	}
	address := u.address()
	u.attempt("Bind", func() error { return u.server.Bind("tcp", address) }, "Bound to")
}

func (u *UI) toggleListening() {
	address := u.address()
	switch {
	case u.server.IsListening():
		u.stop()
	case u.server.IsBound():
		u.attempt("Listen", u.server.ListenBound, "Listening on")
	default:
		u.attempt("Listen", func() error { return u.server.Listen("tcp", address) }, "Listening on")
	}
}

// attempt binds or listens, on another goroutine, because looking up a name may take long.
func (u *UI) attempt(what string, f func() error, done string) {
	u.busy = true
	u.changed()
	go func() {
		err := f()
		u.exec(func() {
			u.busy = false
			if err != nil {
				u.report(what, err)
				return
			}
			u.showPort()
			u.say("%s: %v", done, u.server.Addr())
		})
	}()
}

// stop closes the server; the clients stay.
func (u *UI) stop() {
	addr := u.server.Addr()
	u.server.Close()
	u.say("Closed: %v", addr)
}

// showPort shows the port that the system has chosen.
func (u *UI) showPort() { u.port.SetText(strconv.Itoa(u.server.Port())) }

func (u *UI) setPaused(on bool) {
	u.paused = on
	if on {
		u.server.PauseAccepting()
	} else {
		u.server.ResumeAccepting()
	}
	u.changed()
}

// freezeWindow does what a program must not do. Meanwhile the queue fills, TCP holds the clients back, and nothing is
// lost.
func (u *UI) freezeWindow() {
	u.say("The window is frozen.")
	freeze := func() {
		time.Sleep(u.freeze)
		u.say("It is back; connections that wait: %d", u.server.PendingConnections())
	}
	time.AfterFunc(4*refreshTime, func() { u.exec(freeze) }) // when the line is shown
}

// say adds a line to the log.
func (u *UI) say(format string, args ...any) {
	u.log.add("", fmt.Sprintf(format, args...))
	u.changed()
}

func (u *UI) report(what string, err error) { u.say("%s: %v", what, err) }
