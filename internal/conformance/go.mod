module github.com/pullaccept/tcpserver/internal/conformance

go 1.25.0

require (
	github.com/pullaccept/tcpserver v0.0.0
	golang.org/x/net v0.58.0
)

require (
	github.com/gammazero/deque v1.0.0 // indirect
	golang.org/x/sys v0.47.0 // indirect
)

replace github.com/pullaccept/tcpserver => ../..
