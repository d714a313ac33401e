// Package explore runs the library on a simulated system, in as many ways as there are seeds, and compares what it does
// with a model of what it promises. It needs the tag sim:
//
//	go test -tags sim ./internal/sim/...
//	go run ./internal/sim/cmd/explore -for 10m
//
// A seed gives a [Program]: a system, a configuration of a server, what its clients do, what the program does inside
// and outside of handlers, and a schedule. [Run] runs it, and [Shrink] makes one that fails small. A [MsgProgram] and
// [RunMsg] are the same for the servers of package msgserver.
package explore
