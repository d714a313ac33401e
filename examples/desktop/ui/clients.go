package ui

import (
	"fmt"
	"slices"
	"strings"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/layout"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"github.com/pullaccept/tcpserver"
)

// A client is a connection that was accepted.
type client struct {
	socket *tcpserver.TcpSocket
	name   string
	text   decoder
}

// arrived is called for each connection. Without automatic accepting it waits in the queue until the button is pressed.
func (u *UI) arrived(*tcpserver.TcpServer) {
	if u.automatic.Checked {
		u.acceptNext()
	}
	u.changed()
}

// acceptAll takes the connections that wait.
func (u *UI) acceptAll() {
	for u.server.HasPendingConnections() {
		u.acceptNext()
	}
}

// acceptNext takes the connection that has waited longest.
func (u *UI) acceptNext() {
	socket := u.server.NextPendingConnection()
	if socket == nil {
		return // it has gone
	}
	c := &client{socket: socket, name: socket.RemoteAddr().String()}
	u.clients = append(u.clients, c)
	u.say("Connection from %s", c.name)
	socket.SetHandlers(&tcpserver.SocketHandlers{
		ReadyRead:    func(*tcpserver.TcpSocket) { u.readyRead(c) },
		BytesWritten: func(*tcpserver.TcpSocket, int) { u.changed() },
		Disconnected: func(_ *tcpserver.TcpSocket, err error) { u.disconnected(c, err) },
	})
}

// readyRead shows everything that has arrived, and refreshes the window once.
func (u *UI) readyRead(c *client) {
	received := c.socket.ReadAll()
	u.received += uint64(len(received))
	u.log.addLines("Received from "+c.name+": ", c.text.add(received))
	u.changed()
}

func (u *UI) disconnected(c *client, err error) {
	u.log.addLines("Received from "+c.name+": ", c.text.end())
	i := slices.Index(u.clients, c)
	u.clients = slices.Delete(u.clients, i, i+1)
	if err != nil {
		u.say("%s has gone: %v", c.name, err)
	} else {
		u.say("%s has gone", c.name)
	}
}

// listClients has the list show the clients, and select the one that was chosen, which may be in another row now. Until
// the next call the rows stay what they are, so that a click chooses the client that is seen.
func (u *UI) listClients() {
	u.listed = slices.Clone(u.clients)
	if i := slices.Index(u.listed, u.chosen); i >= 0 {
		u.list.Select(i)
	} else {
		u.chosen = nil
		u.list.UnselectAll()
	}
	u.list.Refresh()
}

func (u *UI) choose(c *client) {
	u.chosen = c
	u.changed()
}

// sendMessage sends the message to the client that was chosen, or to all.
func (u *UI) sendMessage() {
	to := u.clients
	if !u.all.Checked {
		if u.chosen == nil {
			u.say("No client is chosen.")
			return
		}
		to = []*client{u.chosen}
	}
	for _, c := range to {
		if err := c.socket.Send([]byte(u.message.Text + "\n")); err != nil {
			u.report("Sending to "+c.name, err)
			continue
		}
		u.say("Sent message to %s", c.name)
	}
}

// newRow returns a row of the list of clients.
func newRow() fyne.CanvasObject {
	disconnect := widget.NewButtonWithIcon("", theme.CancelIcon(), nil)
	disconnect.Importance = widget.LowImportance
	name := widget.NewLabel("255.255.255.255:65535")
	right := container.NewHBox(widget.NewLabel(""), layout.NewSpacer(), disconnect)
	return container.NewBorder(nil, nil, nil, right, name)
}

// updateRow shows a client in a row.
func (u *UI) updateRow(i widget.ListItemID, o fyne.CanvasObject) {
	if i >= len(u.listed) {
		return
	}
	c := u.listed[i]
	row := o.(*fyne.Container)
	name, right := row.Objects[0].(*widget.Label), row.Objects[1].(*fyne.Container)
	show(name, c.name)
	show(right.Objects[0].(*widget.Label),
		fmt.Sprintf("in %s   out %s", size(c.socket.BytesRead()), size(c.socket.BytesSent())))
	right.Objects[2].(*widget.Button).OnTapped = func() { c.socket.Close() }
}

// show sets the text of a label, unless it has that text: laying it out takes time.
func show(label *widget.Label, text string) {
	if label.Text != text {
		label.SetText(text)
	}
}

// size returns a number of bytes with a unit.
func size(n uint64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	f, units := float64(n)/unit, "KMGT"
	for f >= unit && len(units) > 1 {
		f, units = f/unit, units[1:]
	}
	return strings.Replace(fmt.Sprintf("%.1f %ciB", f, units[0]), ".0 ", " ", 1)
}
