package event_test

import (
	"errors"
	"fmt"
	"io"
	"net"

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

// Several parts of a program react to new connections.
func ExampleEmitter() {
	var connections event.Emitter[*tcpserver.TcpServer]
	server := tcpserver.TcpServer{
		NewConnectionHandler: func(server *tcpserver.TcpServer) { connections.Emit(server) },
	}
	connections.On(func(server *tcpserver.TcpServer) {
		if socket := server.NextPendingConnection(); socket != nil {
			socket.Send([]byte("welcome\n"))
			socket.Close()
		}
	})
	connected := make(chan uint64, 1)
	connections.On(func(server *tcpserver.TcpServer) { connected <- server.Stats().Accepted })

	if err := server.Listen("tcp", "127.0.0.1:0"); err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	conn, err := net.Dial("tcp", server.Addr().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()
	received, _ := io.ReadAll(conn)
	fmt.Printf("%s%d so far\n", received, <-connected)
	// Output:
	// welcome
	// 1 so far
}

// For a handler with two arguments the event is a struct.
func ExampleEmitter_twoArguments() {
	type failure struct {
		server *tcpserver.TcpServer
		err    error
	}
	var failures event.Emitter[failure]
	server := tcpserver.TcpServer{
		AcceptErrorHandler: func(server *tcpserver.TcpServer, err error) { failures.Emit(failure{server, err}) },
	}
	failures.On(func(f failure) { fmt.Println(f.err, f.server.IsListening()) })
	server.AcceptErrorHandler(&server, errors.New("too many open files")) // as the server calls it
	// Output: too many open files false
}

func ExampleEmitter_On() {
	var words event.Emitter[string]
	words.On(func(word string) { fmt.Println("first", word) })
	words.On(func(word string) { fmt.Println("second", word) })
	words.Emit("event")
	// Output:
	// first event
	// second event
}

func ExampleEmitter_OnPriority() {
	var words event.Emitter[string]
	words.On(func(word string) { fmt.Println("default", word) })
	words.OnPriority(-1, func(word string) { fmt.Println("low", word) })
	words.OnPriority(1, func(word string) { fmt.Println("high", word) })
	words.Emit("priority")
	// Output:
	// high priority
	// default priority
	// low priority
}

func ExampleEmitter_Once() {
	var words event.Emitter[string]
	words.Once(func(word string) { fmt.Println(word) })
	words.Emit("first")
	words.Emit("second")
	// Output: first
}

func ExampleEmitter_Prepend() {
	var words event.Emitter[string]
	words.On(func(word string) { fmt.Println("second", word) })
	words.Prepend(func(word string) { fmt.Println("first", word) })
	words.Emit("event")
	// Output:
	// first event
	// second event
}

func ExampleEmitter_PrependOnce() {
	var words event.Emitter[string]
	words.On(func(word string) { fmt.Println("always", word) })
	words.PrependOnce(func(word string) { fmt.Println("once", word) })
	words.Emit("event")
	words.Emit("event")
	// Output:
	// once event
	// always event
	// always event
}

func ExampleEmitter_Emit() {
	var words event.Emitter[string]
	fmt.Println(words.Emit("unheard"))
	words.On(func(word string) { fmt.Println(word) })
	fmt.Println(words.Emit("heard"))
	// Output:
	// false
	// heard
	// true
}

func ExampleEmitter_RemoveAll() {
	var words event.Emitter[string]
	words.On(func(string) {})
	words.On(func(string) {})
	fmt.Println(words.Listeners())
	words.RemoveAll()
	fmt.Println(words.Listeners())
	// Output:
	// 2
	// 0
}

// A program that expects many listeners raises the number above which a warning is logged.
func ExampleEmitter_SetMaxListeners() {
	var words event.Emitter[string]
	words.SetMaxListeners(1000)
	for range 100 {
		words.On(func(string) {})
	}
	fmt.Println(words.Listeners())
	// Output: 100
}

func ExampleSubscription_Off() {
	var words event.Emitter[string]
	subscription := words.On(func(word string) { fmt.Println(word) })
	words.Emit("first")
	subscription.Off()
	words.Emit("second")
	// Output: first
}
