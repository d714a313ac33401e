package msgserver

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// Lines decodes lines of at most max bytes, their end not counted, for ThreadServer.ReadClientMessage. A message is the
// line without its end, '\n' or '\r' and '\n'. max <= 0: no limit but MaxBufferSize.
func Lines[Client any](max int) func(Client, []byte) (string, int, error) {
	return func(_ Client, buf []byte) (string, int, error) {
		i := bytes.IndexByte(buf, '\n')
		line := buf
		if i >= 0 {
			line = bytes.TrimSuffix(buf[:i], []byte{'\r'})
		}
		if max > 0 && len(line) > max && (i >= 0 || len(line) > max+1) { // the last byte may be a '\r'
			return "", 0, fmt.Errorf("msgserver: a line of more than %d bytes", max)
		}
		return string(line[:len(line)*min(i+1, 1)]), i + 1, nil
	}
}

// LengthPrefix16 decodes messages that follow their length in two bytes of that order, for
// ThreadServer.ReadClientMessage. The length does not count itself. A length beyond max is an error; max <= 0: no limit
// but MaxBufferSize, which counts the two bytes.
func LengthPrefix16[Client any](order binary.ByteOrder, max int) func(Client, []byte) ([]byte, int, error) {
	return lengthPrefix[Client](2, max, func(b []byte) uint64 { return uint64(order.Uint16(b)) })
}

// LengthPrefix32 is LengthPrefix16 with four bytes.
func LengthPrefix32[Client any](order binary.ByteOrder, max int) func(Client, []byte) ([]byte, int, error) {
	return lengthPrefix[Client](4, max, func(b []byte) uint64 { return uint64(order.Uint32(b)) })
}

func lengthPrefix[Client any](size, max int, length func([]byte) uint64) func(Client, []byte) ([]byte, int, error) {
	return func(_ Client, buf []byte) ([]byte, int, error) {
		if len(buf) < size {
			return nil, 0, nil
		}
		n := length(buf)
		switch {
		case max > 0 && n > uint64(max):
			return nil, 0, fmt.Errorf("msgserver: a message of %d bytes, the most is %d", n, max)
		case n > uint64(len(buf)-size):
			return nil, 0, nil
		}
		end := size + int(n)
		return bytes.Clone(buf[size:end]), end, nil
	}
}

// errSkipped is what a decoder of this package returns, with a count, for bytes that are done with and are no message.
var errSkipped = errors.New("msgserver: bytes between messages")

// Split decodes what a bufio.SplitFunc finds, for ThreadServer.ReadClientMessage. A message is a token; what the
// function takes without one is skipped, and does not count as unread. With bufio.ErrFinalToken the token, if there is
// one, is the last message, and the client is ended after it. The function is never told of the end of the stream: what
// it would have taken for a last token there is dropped.
func Split[Client any](split bufio.SplitFunc) func(Client, []byte) ([]byte, int, error) {
	return func(_ Client, buf []byte) ([]byte, int, error) {
		for pos := 0; ; {
			n, token, err := 0, []byte(nil), error(nil)
			if pos < len(buf) {
				n, token, err = split(buf[pos:], false)
			}
			switch {
			case n < 0 || n > len(buf)-pos:
				return nil, 0, ErrBadCount
			case err == bufio.ErrFinalToken && token != nil:
				return bytes.Clone(token), len(buf), err // whatever follows, nothing more is decoded
			case err != nil:
				return nil, 0, err
			case n > 0 && token != nil:
				return bytes.Clone(token), pos + n, nil
			case n == 0 && pos > 0:
				return nil, pos, errSkipped
			case n == 0:
				return nil, 0, nil
			}
			pos += n
		}
	}
}
