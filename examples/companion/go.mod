module github.com/pullaccept/tcpserver/examples/companion

go 1.25.0

require (
	github.com/coder/websocket v1.8.15
	github.com/mdp/qrterminal/v3 v3.2.1
	github.com/pullaccept/tcpserver v0.0.0
	github.com/stretchr/testify v1.11.1
)

require (
	github.com/davecgh/go-spew v1.1.1 // indirect
	github.com/gammazero/deque v1.0.0 // indirect
	github.com/pmezard/go-difflib v1.0.0 // indirect
	golang.org/x/sys v0.33.0 // indirect
	golang.org/x/term v0.13.0 // indirect
	gopkg.in/yaml.v3 v3.0.1 // indirect
	rsc.io/qr v0.2.0 // indirect
)

replace github.com/pullaccept/tcpserver => ../..
