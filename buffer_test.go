package tcpserver

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestChunkKeepsBytesWhenItGrows(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var c *chunk
	var model []byte
	for range 2000 {
		if random.IntN(2) == 0 {
			p := make([]byte, random.IntN(5000))
			for i := range p {
				p[i] = byte(random.Int())
			}
			c = c.room(len(p))
			c.w += copy(c.data[c.w:], p)
			model = append(model, p...)
		} else {
			n := random.IntN(c.len() + 1)
			if c != nil {
				c.r += n
			}
			model = model[n:]
		}
		require.Equal(t, len(model), c.len())
		require.True(t, bytes.Equal(model, c.bytes()))
	}
}

func TestChunksFromPoolAreEmpty(t *testing.T) {
	for _, n := range []int{0, 1, 1 << 10, 1<<10 + 1, 1 << 20, 1<<20 + 1} {
		c := newChunk(n)
		assert.GreaterOrEqual(t, len(c.data), n)
		c.w = n
		c.free()
		assert.Zero(t, newChunk(n).len())
	}
}

func TestChunkRingIsFirstInFirstOut(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	var ring chunkRing
	var model []*chunk
	for range 5000 {
		switch {
		case random.IntN(2) == 0:
			c := &chunk{kind: chunkWriter}
			ring.push(c)
			model = append(model, c)
		case len(model) > 0 && random.IntN(2) == 0:
			i := random.IntN(len(model))
			ring.remove(model[i])
			require.Nil(t, model[i].next)
			model = append(model[:i:i], model[i+1:]...)
		case len(model) > 0:
			require.Same(t, model[0], ring.first())
			require.Same(t, model[0], ring.shift())
			require.Nil(t, model[0].next)
			model = model[1:]
		}
		require.Equal(t, len(model) == 0, ring.empty())
	}
	ring.clear()
	assert.True(t, ring.empty())
}

func TestSmallSendsShareChunks(t *testing.T) {
	var ring chunkRing
	for range 1000 {
		ring.appendCopy([]byte("0123456789"))
	}
	chunks := 0
	for !ring.empty() {
		ring.shift()
		chunks++
	}
	assert.LessOrEqual(t, chunks, 10)
}

// The unread rest of a large message must not keep the memory of the whole message.
func TestRestOfMessageKeepsLittleMemory(t *testing.T) {
	s := &TcpSocket{in: newChunk(64 << 10)}
	s.in.w = len(s.in.data)
	s.consume(s.in.len() - 1)
	require.Equal(t, 1, s.in.len())
	require.LessOrEqual(t, len(s.in.data), 1<<minChunkBits)
}

// fuzzSizes are the numbers of bytes that an operation of the fuzz targets below may be about: those at which a chunk
// changes its class, a view is copied, or a chunk becomes sparse.
var fuzzSizes = [26]int{
	0, 1, 2, 100, 128, 129, 1<<10 - 1, // a to g
	1 << 10, 1<<10 + 1, 2 << 10, 4<<10 - 1, 8 << 10, 8<<10 + 1, // h to m
	32 << 10, 32<<10 + 1, 60 << 10, 64<<10 - 1, 64 << 10, 64<<10 + 1, 128 << 10, // n to t
	256 << 10, 256<<10 + 1, 512 << 10, 1<<20 - 1, 1 << 20, 1<<20 + 1, // u to z
}

// eachOperation calls do for each operation of a fuzz target's input: two letters, the operation and its size.
func eachOperation(input []byte, do func(op byte, size int)) {
	const most = 200
	for pair := range slices.Chunk(input[:min(len(input), 2*most)&^1], 2) {
		do('a'+(pair[0]-'a')%26, fuzzSizes[(pair[1]-'a')%26])
	}
}

// A byteSource makes bytes that tell where in the stream they are.
type byteSource uint32

func (b *byteSource) fill(p []byte) []byte {
	for i := range p {
		p[i] = byte(*b>>(8*(*b&3))) ^ byte(*b)
		*b++
	}
	return p
}

// spoilPool writes over a chunk that another socket could get for n bytes.
func spoilPool(n int) {
	c := newChunk(n)
	for i := range c.data {
		c.data[i] = 0xee
	}
	c.free()
}

// A readModel is a socket's read buffer, and what it must hold.
type readModel struct {
	s            TcpSocket
	scratch      scratch
	source       byteSource
	want         []byte
	view, viewed []byte // what Peek has returned, and what it has to show until something is taken
}

// do makes one of the moves that read.go makes with a buffer.
func (m *readModel) do(op byte, n int) {
	s := &m.s
	switch op {
	case 'f': // fill, which receives behind what is there
		if len(m.want) < 2<<20 {
			s.in = s.in.room(n)
			m.want = append(m.want, m.source.fill(s.in.data[s.in.w:][:n])...)
			s.in.w += n
			if s.in.len() == 0 {
				s.in.free()
				s.in = nil
			}
		}
	case 's': // readForHandler, which receives into the scratch buffer if there is nothing
		c := m.scratch.buffer()
		if n = min(n, len(c.data)); s.in == nil && n > 0 {
			c.r, c.w = 0, n
			m.want = append(m.want, m.source.fill(c.data[:n])...)
			s.in = c
		}
	case 'c':
		if n = min(n, s.in.len()); n > 0 {
			s.consume(n)
			m.want = m.want[n:]
			m.view, m.viewed = nil, nil
		}
	case 'v':
		m.view = s.Peek(n)
		m.viewed = bytes.Clone(m.view)
	case 'l': // the handler returns, and another socket is served
		s.leaveScratch(&m.scratch)
		m.source.fill(m.scratch.buffer().data)
	case 'o': // another goroutine takes over the loop
		s.onLate(&m.scratch)
	case 'r': // the goroutine that runs handlers sleeps or ends
		s.leaveScratch(&m.scratch)
		m.scratch.release()
	case 'p':
		spoilPool(n)
	}
}

// FuzzReadBuffer checks that a read buffer holds what was received and not taken, whatever the order of the moves, and
// that a view keeps showing the same bytes: no other socket gets its memory.
func FuzzReadBuffer(f *testing.F) {
	f.Add([]byte("shvdlapjfhvhph"))   // a small view of the scratch buffer, and what follows it
	f.Add([]byte("frcnvhfnprvafh"))   // a view, and a buffer that must not move
	f.Add([]byte("frvrfspsprvafh"))   // a view, and a buffer that outgrows its chunk
	f.Add([]byte("sqvqoaprfhraprsh")) // a handler that is late, with a view of the scratch buffer
	f.Add([]byte("snvnoaprshvnla"))   // the same, with half of it
	f.Add([]byte("snvnlaprsnvnla"))   // a view that stays when the handler returns
	f.Add([]byte("frcqfhprcaveva"))   // a byte is left of a large message
	f.Add([]byte("fzcvvzfzcxcxca"))   // more than is pooled
	f.Fuzz(func(t *testing.T, input []byte) {
		m := &readModel{}
		m.s.input = inputEnded // nothing is asked of the system
		m.s.config = &socketConfig{}
		eachOperation(input, func(op byte, n int) {
			m.do(op, n)
			require.True(t, bytes.Equal(m.want, m.s.in.bytes()), "after %c %d", op, n)
			require.True(t, bytes.Equal(m.viewed, m.view), "the view after %c %d", op, n)
			require.False(t, m.s.in != nil && m.s.in.len() == 0, "an empty buffer is kept after %c %d", op, n)
		})
	})
}

// A sendModel is a send queue, and what it must hold.
type sendModel struct {
	queue  chunkRing
	source byteSource
	want   []byte
	writes []*chunk // of Writes that wait, in their order in the queue
}

// do makes one of the moves that write.go makes with a queue.
func (m *sendModel) do(t *testing.T, op byte, n int) {
	if len(m.want) > 2<<20 && (op == 's' || op == 'w') {
		return
	}
	switch op {
	case 's': // Send
		p := m.source.fill(make([]byte, n))
		m.want = append(m.want, p...)
		m.queue.appendCopy(p)
		clear(p) // the caller may use its slice again
	case 'w': // Write
		p := m.source.fill(make([]byte, n+1))
		m.want = append(m.want, p...)
		c := &chunk{data: p, w: len(p), kind: chunkWriter}
		m.queue.push(c)
		m.writes = append(m.writes, c)
	case 'f':
		m.flush(t, n)
	case 'x': // the deadline of the last Write has passed, and nothing of it is sent
		if i := len(m.writes) - 1; i >= 0 && m.writes[i].r == 0 {
			m.remove(t, m.writes[i])
			m.writes = m.writes[:i]
		}
	case 'c':
		m.queue.clear()
		m.want, m.writes = nil, nil
	case 'p':
		spoilPool(n)
	}
}

// flush takes up to n bytes, as TcpSocket.flush does.
func (m *sendModel) flush(t *testing.T, n int) {
	for n > 0 && !m.queue.empty() {
		c := m.queue.first()
		sent := min(n, c.len())
		require.True(t, bytes.Equal(m.want[:sent], c.bytes()[:sent]))
		n -= sent
		m.want = m.want[sent:]
		if c.r += sent; c.r == c.w {
			require.Same(t, c, m.queue.shift())
			require.Nil(t, c.next)
			if c.kind == chunkWriter {
				require.Same(t, m.writes[0], c)
				m.writes = m.writes[1:]
			}
			c.free()
		}
	}
}

// remove takes c, of which nothing is sent, out of the middle of the queue.
func (m *sendModel) remove(t *testing.T, c *chunk) {
	begin := 0
	for d := m.queue.first(); d != c; d = d.next {
		begin += d.len()
	}
	m.want = slices.Delete(m.want, begin, begin+c.len())
	m.queue.remove(c)
	require.Nil(t, c.next)
}

// bytes returns what the queue holds.
func (m *sendModel) bytes() (all []byte) {
	if m.queue.empty() {
		return nil
	}
	for c := m.queue.first(); ; c = c.next {
		all = append(all, c.bytes()...)
		if c == m.queue.last {
			return all
		}
	}
}

// FuzzSendQueue checks that a send queue holds what was queued and not sent, in order, whatever the order of the moves.
func FuzzSendQueue(f *testing.F) {
	f.Add([]byte("sbsbshfbsrfsfz"))   // small pieces share chunks
	f.Add([]byte("ssuwszfuwasbfzfz")) // Writes between Sends
	f.Add([]byte("sbwrwhxasdxafz"))   // Writes that are given up
	f.Add([]byte("szwucaprsbfz"))     // an end with a queue
	f.Fuzz(func(t *testing.T, input []byte) {
		m := &sendModel{}
		eachOperation(input, func(op byte, n int) {
			m.do(t, op, n)
			require.True(t, bytes.Equal(m.want, m.bytes()), "after %c %d", op, n)
			require.Equal(t, len(m.writes) > 0, m.queue.hasWriter(), "after %c %d", op, n)
		})
	})
}
