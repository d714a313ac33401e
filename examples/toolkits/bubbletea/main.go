// Bubbletea is a program with package bubbletea whose server's handlers run in Update.
package main

import (
	"flag"
	"log"

	tea "charm.land/bubbletea/v2"

	"github.com/pullaccept/tcpserver/examples/toolkits/lines"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:7011", "address to listen on")
	flag.Parse()
	m := new(model)
	program := tea.NewProgram(m)
	err := m.serve(program, *addr)
	if err == nil {
		_, err = program.Run()
		m.server.Close()
	}
	if err != nil {
		log.Fatal(err)
	}
}

type model struct {
	server lines.Server
	ending bool
}

// A call is a message: a function that Update runs.
type call func()

// serve starts a server whose handlers run in Update of the program's model, m.
func (m *model) serve(program *tea.Program, addr string) error {
	m.server.Changed = func() {} // View is called after each Update
	m.server.Quit = func() { m.ending = true }
	return m.server.Listen(addr, func(f func()) { program.Send(call(f)) })
}

func (m *model) Init() tea.Cmd { return nil }

func (m *model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case call:
		msg()
	case tea.KeyPressMsg:
		m.ending = msg.String() == "ctrl+c"
	}
	if m.ending {
		m.server.Close()
		return m, tea.Quit
	}
	return m, nil
}

func (m *model) View() tea.View { return tea.NewView(m.server.String() + "\n") }
