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
