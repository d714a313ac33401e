package tcpserver

import (
	"bytes"
	"runtime"
	"strconv"
)

// goroutineID returns the number of the calling goroutine. The runtime tells it in stack traces alone, which takes some
// microseconds: it is for what happens seldom.
func goroutineID() uint64 {
	var trace [64]byte
	line := trace[:runtime.Stack(trace[:], false)]
	number, _, _ := bytes.Cut(bytes.TrimPrefix(line, []byte("goroutine ")), []byte(" "))
	id, _ := strconv.ParseUint(string(number), 10, 64)
	return id
}

// inHandler reports whether a handler or a callback is running on the calling goroutine.
func inHandler() bool {
	pcs := make([]uintptr, 64)
	n := runtime.Callers(1, pcs)
	for ; n == len(pcs); n = runtime.Callers(1, pcs) {
		pcs = make([]uintptr, 2*len(pcs))
	}
	frames := runtime.CallersFrames(pcs[:n])
	for {
		frame, more := frames.Next()
		switch frame.Function {
		case "github.com/pullaccept/tcpserver.(*TcpServer).call", "github.com/pullaccept/tcpserver.(*TcpSocket).call":
			return true
		}
		if !more {
			return false
		}
	}
}
