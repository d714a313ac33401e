package msgserver

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// Lines returns a function for [ThreadServer.ReadClientMessage] that decodes lines. A message is a line without its
// end, which is "\n" or "\r\n". A line of more than max bytes, its end not counted, is an error. If max <= 0, only
// MaxBufferSize limits a line.
func Lines[Client any](max int) func(Client, []byte) (string, int, error) {
	return func(_ Client, buf []byte) (string, int, error) {
		i := bytes.IndexByte(buf, '\n')
		line := buf
		if i >= 0 {
			line = bytes.TrimSuffix(buf[:i], []byte{'\r'})
		}
		if max > 0 && len(line) > max && (i >= 0 || len(line) > max+1) { // the last byte may be the '\r' of the end
			return "", 0, fmt.Errorf("msgserver: line longer than %d bytes", max)
		}
		return string(line[:len(line)*min(i+1, 1)]), i + 1, nil
	}
}

// LengthPrefix16 returns a function for [ThreadServer.ReadClientMessage] that decodes messages preceded by their
// length, which is two bytes in the given order and does not include itself. A length of more than max bytes is an
// error. If max <= 0, only MaxBufferSize limits a message, which includes the two bytes.
func LengthPrefix16[Client any](order binary.ByteOrder, max int) func(Client, []byte) ([]byte, int, error) {
	return lengthPrefix[Client](2, max, func(b []byte) uint64 { return uint64(order.Uint16(b)) })
}

// LengthPrefix32 is like [LengthPrefix16], with a length of four bytes.
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
			return nil, 0, fmt.Errorf("msgserver: message of %d bytes is longer than %d", n, max)
		case n > uint64(len(buf)-size):
			return nil, 0, nil
		}
		end := size + int(n)
		return bytes.Clone(buf[size:end]), end, nil
	}
}

// errSkipped is returned by the decoders of this package, with a count, for bytes that belong to no message and have
// been consumed.
var errSkipped = errors.New("msgserver: bytes between messages")

// Split returns a function for [ThreadServer.ReadClientMessage] that decodes with a [bufio.SplitFunc]. A message is a
// token. Bytes that split consumes without returning a token are skipped and do not count towards MaxBufferSize. If
// split returns [bufio.ErrFinalToken], its token, if there is one, is the last message, and the client is ended after
// it. split is never called with atEOF true: what it would then return as the last token is dropped.
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
				return bytes.Clone(token), len(buf), err // nothing after it is decoded
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
