package event_test

import (
	"fmt"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/event"
)

func Example() {
	var words event.Emitter[string]
	words.On(func(word string) { fmt.Println("first:", word) })
	words.OnPriority(1, func(word string) { fmt.Println("before it:", word) })
	second := words.On(func(word string) { fmt.Println("second:", word) })
	words.Once(func(word string) { fmt.Println("only now:", word) })
	words.Emit("one")
	second.Off()
	words.Emit("two")
	// Output:
	// before it: one
	// first: one
	// second: one
	// only now: one
	// before it: two
	// first: two
}

// Several parts of a program are told of connections.
func ExampleEmitter() {
	var connections event.Emitter[*tcpserver.TcpServer]
	server := tcpserver.TcpServer{
		NewConnectionHandler: func(server *tcpserver.TcpServer) { connections.Emit(server) },
	}
	connections.On(func(server *tcpserver.TcpServer) {
		if socket := server.NextPendingConnection(); socket != nil {
			socket.Close()
		}
	})
	connections.On(func(server *tcpserver.TcpServer) { fmt.Println(server.Stats().Accepted, "so far") })
	defer server.Close()
}

// A handler of two arguments becomes an event that is a struct.
func ExampleEmitter_twoArguments() {
	type failure struct {
		server *tcpserver.TcpServer
		err    error
	}
	var failures event.Emitter[failure]
	server := tcpserver.TcpServer{
		AcceptErrorHandler: func(server *tcpserver.TcpServer, err error) { failures.Emit(failure{server, err}) },
	}
	failures.On(func(f failure) { fmt.Println(f.err) })
	defer server.Close()
}
