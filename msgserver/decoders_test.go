package msgserver

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
	"github.com/pullaccept/tcpserver/internal/servertest"
)

func TestLines(t *testing.T) {
	decode := Lines[int](5)
	for _, c := range []struct {
		buf, msg string
		n        int
		fails    bool
	}{
		{"", "", 0, false},
		{"abc", "", 0, false},
		{"abc\nrest", "abc", 4, false},
		{"abc\r\nrest", "abc", 5, false},
		{"\n", "", 1, false},
		{"\r\n", "", 2, false},
		{"12345\n", "12345", 6, false},
		{"12345\r\n", "12345", 7, false},
		{"12345\r", "", 0, false},
		{"1234567", "", 0, true},
		{"123456\n", "", 0, true},
	} {
		msg, n, err := decode(0, []byte(c.buf))
		assert.Equal(t, c.fails, err != nil, "%q", c.buf)
		assert.Equal(t, c.msg, msg, "%q", c.buf)
		assert.Equal(t, c.n, n, "%q", c.buf)
	}
}

func TestLengthPrefix(t *testing.T) {
	for _, order := range []binary.ByteOrder{binary.BigEndian, binary.LittleEndian} {
		two := order.(binary.AppendByteOrder).AppendUint16(nil, 5)
		four := order.(binary.AppendByteOrder).AppendUint32(nil, 5)
		for _, c := range []struct {
			name   string
			prefix []byte
			decode func(int, []byte) ([]byte, int, error)
		}{
			{"two", two, LengthPrefix16[int](order, 5)},
			{"four", four, LengthPrefix32[int](order, 5)},
		} {
			whole := append(c.prefix, "Hello and more"...)
			for i := range len(c.prefix) + 5 {
				msg, n, err := c.decode(0, whole[:i])
				require.NoError(t, err)
				require.Zero(t, n)
				require.Nil(t, msg)
			}
			msg, n, err := c.decode(0, whole)
			require.NoError(t, err)
			require.Equal(t, len(c.prefix)+5, n)
			require.Equal(t, "Hello", string(msg))
			msg, n, err = c.decode(0, make([]byte, len(c.prefix)))
			require.NoError(t, err)
			require.Equal(t, len(c.prefix), n, "an empty message")
			require.Empty(t, msg)
		}
	}
	_, _, err := LengthPrefix32[int](binary.BigEndian, 5)(0, []byte{0, 0, 0, 6})
	require.Error(t, err)
	_, n, err := LengthPrefix32[int](binary.BigEndian, 0)(0, []byte{255, 255, 255, 255, 1})
	require.NoError(t, err)
	require.Zero(t, n)
}

func TestSplit(t *testing.T) {
	words := Split[int](bufio.ScanWords)
	msg, n, err := words(0, []byte("  one two"))
	require.NoError(t, err)
	assert.Equal(t, "one", string(msg))
	assert.Equal(t, 6, n)
	_, n, err = words(0, []byte("two"))
	require.NoError(t, err)
	assert.Zero(t, n)
	failing := Split[int](func([]byte, bool) (int, []byte, error) { return 0, nil, errors.New("no") })
	_, _, err = failing(0, []byte("x"))
	require.Error(t, err)
}

// inChunks decodes a stream that arrives in chunks from a client of a ThreadServer, whose messages have at least header
// bytes.
func inChunks(
	t testing.TB, header int, decode func(int, []byte) (string, int, error), chunks [][]byte,
) (messages []string, err error) {
	t.Helper()
	s := &ThreadServer[int, string]{
		ReadClientMessage: decode, MessageHeaderSize: header, InitialBufferSize: 3, MaxBufferSize: 64,
	}
	c := &session[int, string]{server: s}
	for _, chunk := range chunks {
		for len(chunk) > 0 && !c.done {
			c.waiting = -1 << 30 // as if the worker handled every message at once
			n, err := c.decode(chunk)
			for s.tasks.Len() > 0 {
				if task := s.tasks.PopFront(); task.kind == taskMessage {
					messages = append(messages, task.msg)
				}
			}
			if err != nil {
				return messages, err
			}
			require.LessOrEqual(t, n, len(chunk))
			require.LessOrEqual(t, len(c.partial), 64)
			require.Positive(t, n, "decoding makes progress")
			chunk = chunk[n:]
		}
	}
	return messages, nil
}

// feed has a ServerLoop process a stream that arrives in chunks from a client without a socket, and calls after after
// each. It returns the error that ends the client.
func feed(l *ServerLoop[int], chunks [][]byte, after func(c *loopClient[int])) (failure error) {
	l.OnError = func(err error) { failure = causeOf(err) }
	l.shuttingDown = true // or consume would ask the socket, which is nil, what is queued
	c := newLoopClient(l, nil)
	c.closing.Store(true) // or the socket would be paused and closed
	for _, chunk := range chunks {
		c.receive(chunk)
		l.process(c)
		if c.removed {
			return failure
		}
		for _, spare := range l.spare { // as other clients would overwrite it
			clear(spare[:cap(spare)])
		}
		after(c)
	}
	return nil
}

// loopInChunks decodes a stream that arrives in chunks from a client of a ServerLoop.
func loopInChunks(
	t testing.TB, decode func(int, []byte) (string, int, error), chunks [][]byte,
) (messages []string, err error) {
	t.Helper()
	l := &ServerLoop[int]{MaxBufferSize: 64}
	l.ProcessClientData = func(data int, buf []byte) (int, error) {
		msg, n, err := decode(data, buf)
		switch {
		case err == errSkipped:
			return n, nil
		case err == nil && n > 0:
			messages = append(messages, msg)
		}
		return n, err
	}
	err = feed(l, chunks, func(*loopClient[int]) {})
	return messages, err
}

// untilEnd is a split function for lines, of which "end" is the last.
func untilEnd(data []byte, atEOF bool) (n int, token []byte, err error) {
	if n, token, err = bufio.ScanLines(data, atEOF); string(token) == "end" {
		err = bufio.ErrFinalToken
	}
	return n, token, err
}

// decoders returns the decoders to test, with strings as messages.
func decoders() map[string]func(int, []byte) (string, int, error) {
	text := func(decode func(int, []byte) ([]byte, int, error)) func(int, []byte) (string, int, error) {
		return func(client int, buf []byte) (string, int, error) {
			msg, n, err := decode(client, buf)
			return string(msg), n, err
		}
	}
	return map[string]func(int, []byte) (string, int, error){
		"lines":         Lines[int](0),
		"short lines":   Lines[int](10),
		"two bytes":     text(LengthPrefix16[int](binary.BigEndian, 0)),
		"two bytes, LE": text(LengthPrefix16[int](binary.LittleEndian, 40)),
		"four bytes":    text(LengthPrefix32[int](binary.LittleEndian, 20)),
		"words":         text(Split[int](bufio.ScanWords)),
		"scan lines":    text(Split[int](bufio.ScanLines)),
		"until the end": text(Split[int](untilEnd)),
	}
}

// cut divides a stream into chunks whose lengths are those of cuts, again and again.
func cut(stream, cuts []byte) (chunks [][]byte) {
	for i := 0; len(stream) > 0; i++ {
		n := len(stream)
		if len(cuts) > 0 {
			n = min(n, 1+int(cuts[i%len(cuts)]))
		}
		chunks = append(chunks, stream[:n])
		stream = stream[n:]
	}
	return chunks
}

// FuzzChunking checks that a stream gives the same messages and the same error however it is divided into chunks, and
// the same on both servers.
func FuzzChunking(f *testing.F) {
	f.Add([]byte("one\ntwo\r\n\nthree and more\n"), []byte{1, 2, 3}, uint8(0))
	f.Add([]byte("\x00\x03abc\x00\x00\x00\x05Hello"), []byte{1}, uint8(2))
	f.Add([]byte("\x03\x00abc\x00\x00\x05\x00Hello"), []byte{7, 1}, uint8(4))
	f.Add([]byte(strings.Repeat("x", 65)), []byte{64, 1}, uint8(0))
	f.Add([]byte(strings.Repeat("word ", 50)), []byte{9}, uint8(1))
	f.Add([]byte("one\nend\ntwo\n"), []byte{5}, uint8(0))
	f.Add([]byte("1234567890\r\n1234567890\r"), []byte{20}, uint8(0))
	f.Fuzz(func(t *testing.T, stream, cuts []byte, header uint8) {
		if len(stream) > 1024 || header > 64 {
			return
		}
		chunks, bytewise := cut(stream, cuts), cut(stream, []byte{0})
		for name, decode := range decoders() {
			if header > 2 && name == "words" {
				continue // MessageHeaderSize must not be longer than the shortest message, a letter and a space
			}
			want, wantErr := inChunks(t, int(header), decode, bytewise)
			got, err := inChunks(t, int(header), decode, chunks)
			require.Equal(t, want, got, name)
			require.Equal(t, wantErr, err, name)
			if header > 1 || name == "until the end" { // a ServerLoop has no such thing
				continue
			}
			got, err = loopInChunks(t, decode, chunks)
			require.Equal(t, want, got, name)
			require.Equal(t, wantErr, err, name)
		}
	})
}

// repliesTo returns what a lineServer answers to a stream of lines of up to limit bytes, and the error that ends it.
func repliesTo(stream []byte, limit int) (replies []string, err error) {
	for {
		i := bytes.IndexByte(stream[:min(len(stream), limit)], '\n')
		switch {
		case i < 0 && len(stream) > limit:
			return replies, ErrBufferFull
		case i < 0:
			return replies, nil
		case string(stream[:i]) == "bad":
			return replies, errBad
		}
		replies = append(replies, string(stream[:i])+"!\n")
		stream = stream[i+1:]
	}
}

// A checkedServer answers each line of its clients, of which it has one at a time.
type checkedServer struct {
	*tcpserver.TcpServer
	limit   int
	begun   chan *tcpserver.TcpSocket
	failure error      // of the client, if the server has ended it; used only in callbacks
	ended   chan error // receives failure when the client has ended
}

func newCheckedServer(f *testing.F, build func(*lineServer), limit int) *checkedServer {
	c := &checkedServer{limit: limit, begun: make(chan *tcpserver.TcpSocket, 1), ended: make(chan error, 1)}
	s := newLineServer(build)
	s.maxBuffer = limit
	s.answer()
	s.connected = func(socket *tcpserver.TcpSocket) error { c.failure = nil; c.begun <- socket; return nil }
	s.failed = func(err error) { c.failure = causeOf(err) }
	s.disconnected = func(*tcpserver.TcpSocket) { c.ended <- c.failure }
	c.TcpServer = serve(f, s.serve)
	return c
}

// check sends chunks, each after the server has received the one before, and checks the replies and the error.
func (c *checkedServer) check(t *testing.T, chunks [][]byte) {
	conn := dial(t, c.TcpServer)
	require.NoError(t, conn.SetDeadline(time.Now().Add(servertest.Patience)))
	socket := receive(t, c.begun)
	sent := uint64(0)
	for _, chunk := range chunks {
		if _, err := conn.Write(chunk); err != nil {
			break // the server has ended the connection
		}
		sent += uint64(len(chunk))
		for socket.BytesRead() < sent && socket.State() == tcpserver.StateConnected {
			runtime.Gosched()
		}
	}
	conn.Conn.(*net.TCPConn).CloseWrite()
	want, failure := repliesTo(bytes.Join(chunks, nil), c.limit)
	got, err := io.ReadAll(conn)
	require.Equal(t, failure, receive(t, c.ended))
	require.Equal(t, strings.Join(want, ""), string(got))
	if failure == nil { // otherwise it may be a reset, because something was still sent
		require.NoError(t, err)
	}
	conn.Close()
}

// FuzzSegments checks that both servers handle and answer the lines of a stream, up to the first that is wrong, however
// TCP divides it into segments.
func FuzzSegments(f *testing.F) {
	const limit = 64
	servers := []*checkedServer{newCheckedServer(f, asThreadServer, limit), newCheckedServer(f, asServerLoop, limit)}
	f.Add([]byte("one\ntwo\n\nthree and more\nfo"), []byte{1, 2, 3})
	f.Add([]byte("one\nbad\ntwo\n"), []byte{2})
	f.Add([]byte(strings.Repeat("\n", 200)), []byte{150})
	f.Add([]byte("one\n"+strings.Repeat("x", 63)+"\n"+strings.Repeat("x", 64)+"\n"), []byte{60, 1})
	f.Fuzz(func(t *testing.T, stream, cuts []byte) {
		stream = bytes.ReplaceAll(stream, []byte("\r"), nil) // which only Lines trims
		chunks := cut(stream, cuts)
		if len(stream) > 1024 || len(chunks) > 64 {
			return
		}
		for _, server := range servers {
			server.check(t, chunks)
		}
	})
}

// FuzzAnyDecoder checks that whatever a decoder returns, the server stays inside its buffer, makes progress, and keeps
// no more bytes than its limit.
func FuzzAnyDecoder(f *testing.F) {
	f.Add([]byte("Hello, world"), []byte{0, 1, 2, 255}, uint8(3))
	f.Add([]byte(strings.Repeat("x", 200)), []byte{0}, uint8(1))
	f.Add([]byte("abcdef"), []byte{0, 0, 1, 0}, uint8(2))
	f.Fuzz(func(t *testing.T, stream, counts []byte, size uint8) {
		if len(counts) == 0 || size == 0 || len(stream) > 4096 {
			return
		}
		calls := 0
		decode := func(_ int, buf []byte) (string, int, error) {
			calls++
			require.LessOrEqual(t, calls, 10_000)
			require.LessOrEqual(t, len(buf), 64)
			n := int(int8(counts[calls%len(counts)]))
			return "", n, nil
		}
		messages, err := inChunks(t, 0, decode, cut(stream, []byte{size - 1}))
		require.LessOrEqual(t, len(messages), len(stream))
		if err != nil {
			require.True(t, errors.Is(err, ErrBadCount) || errors.Is(err, ErrBufferFull), "%v", err)
		}
	})
}

// FuzzLoop checks that whatever ProcessClientData returns, the loop stays inside its buffer, makes progress, keeps no
// more bytes than its limit, and keeps those that were not handled.
func FuzzLoop(f *testing.F) {
	f.Add([]byte("Hello, world"), []byte{0, 1, 2, 255}, uint8(3))
	f.Add([]byte(strings.Repeat("x", 200)), []byte{0}, uint8(1))
	f.Add([]byte("abcdef"), []byte{0, 0, 1, 0}, uint8(2))
	f.Fuzz(func(t *testing.T, stream, counts []byte, size uint8) {
		if len(counts) == 0 || size == 0 || len(stream) > 4096 {
			return
		}
		handled, calls := 0, 0
		l := &ServerLoop[int]{MaxBufferSize: 64}
		l.ProcessClientData = func(_ int, buf []byte) (int, error) {
			calls++
			require.LessOrEqual(t, calls, 10_000)
			require.True(t, strings.HasPrefix(string(stream[handled:]), string(buf)))
			require.LessOrEqual(t, len(buf), 64)
			n := int(int8(counts[calls%len(counts)]))
			handled += min(max(n, 0), len(buf))
			return n, nil
		}
		fed := 0
		err := feed(l, cut(stream, []byte{size - 1}), func(c *loopClient[int]) {
			fed = min(fed+int(size), len(stream))
			require.Equal(t, string(stream[handled:fed]), string(c.rest))
			require.LessOrEqual(t, len(c.rest), 64)
		})
		require.True(t, err == nil || err == ErrBadCount || err == ErrBufferFull, err)
	})
}

func TestSplitSkipsBytesBetweenTokens(t *testing.T) {
	s, events := journal()
	s.MaxBufferSize = 10
	words := Split[string](bufio.ScanWords)
	s.ReadClientMessage = func(name string, buf []byte) (string, int, error) {
		word, n, err := words(name, buf)
		return string(word), n, err
	}
	conn := dial(t, serve(t, s.Serve))
	require.Equal(t, "c1 connected", receive(t, events))
	conn.send(strings.Repeat(" ", 1000) + "one")
	conn.send(strings.Repeat(" ", 1000) + "two ")
	require.Equal(t, "c1 one", receive(t, events))
	require.Equal(t, "c1 two", receive(t, events))
	for range 20 {
		conn.send(" ")
	}
	conn.send("three ")
	require.Equal(t, "c1 three", receive(t, events))
	conn.send("much too long ")
	require.Equal(t, "c1 much", receive(t, events))
	require.Equal(t, "c1 too", receive(t, events))
	require.Equal(t, "c1 long", receive(t, events))
	conn.send("incomprehensible")
	require.Contains(t, receive(t, events), ErrBufferFull.Error())
}

func TestFinalTokenIsTheLastMessage(t *testing.T) {
	for final, want := range map[string][]string{
		"with":    {"c1 one", "c1 stop"},
		"without": {"c1 one"},
	} {
		for _, advance := range []int{0, 5} {
			s, events := journal()
			words := Split[string](func(data []byte, atEOF bool) (int, []byte, error) {
				n, word, err := bufio.ScanWords(data, atEOF)
				switch {
				case string(word) != "stop":
					return n, word, err
				case final == "with":
					return advance, word, bufio.ErrFinalToken
				default:
					return advance, nil, bufio.ErrFinalToken
				}
			})
			s.ReadClientMessage = func(name string, buf []byte) (string, int, error) {
				word, n, err := words(name, buf)
				return string(word), n, err
			}
			conn := dial(t, serve(t, s.Serve))
			conn.send("one stop two three ")
			conn.ended()
			for _, event := range slices.Concat([]string{"c1 connected"}, want, []string{"c1 disconnected <nil>"}) {
				require.Equal(t, event, receive(t, events))
			}
			never(t, events)
		}
	}
}
