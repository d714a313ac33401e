module github.com/pullaccept/tcpserver/internal/conformance

go 1.25.0

require (
	github.com/pullaccept/tcpserver v0.0.0
	golang.org/x/net v0.58.0
)

require (
	github.com/davecgh/go-spew v1.1.1 // indirect
	github.com/gammazero/deque v1.0.0 // indirect
	github.com/pmezard/go-difflib v1.0.0 // indirect
	github.com/stretchr/testify v1.10.0 // indirect
	golang.org/x/sys v0.47.0 // indirect
	gopkg.in/yaml.v3 v3.0.1 // indirect
)

replace github.com/pullaccept/tcpserver => ../..
