module github.com/pullaccept/tcpserver/internal/conformance

go 1.26.0

require (
	github.com/pullaccept/tcpserver v0.0.0
	golang.org/x/net v0.58.0
)

require (
	github.com/gammazero/deque v1.2.3 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace github.com/pullaccept/tcpserver => ../..
