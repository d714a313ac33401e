package tcpserver

import (
	"math/bits"

	"github.com/pullaccept/tcpserver/internal/sched"
)

// A chunk holds bytes that were received and not taken, or that are not sent yet: data[r:w].
type chunk struct {
	data   []byte
	r, w   int
	next   *chunk // in a chunkRing
	kind   chunkKind
	viewed bool // Peek has returned a slice of data[r:w], which may be in use
}

// chunkKind says whose memory the data of a chunk is. A value of 0 or more is the size class of a pooled chunk.
type chunkKind int8

const (
	chunkUnpooled chunkKind = -1 - iota // larger than the largest class
	chunkScratch                        // the scratch buffer of a goroutine that runs handlers
	chunkWriter                         // the slice of a Write that waits
)

// The sizes of pooled chunks are powers of two, from 1 KiB to 1 MiB. An idle socket has none.
const (
	minChunkBits = 10
	maxChunkBits = 20
	scratchBits  = 16 // of a scratch buffer
)

var chunkPools [maxChunkBits - minChunkBits + 1]sched.Pool

// newChunk returns an empty chunk with room for at least n bytes.
func newChunk(n int) *chunk {
	class := max(0, bits.Len(uint(max(n, 1)-1))-minChunkBits)
	if class >= len(chunkPools) {
		return &chunk{data: make([]byte, n), kind: chunkUnpooled}
	}
	if c, ok := chunkPools[class].Get().(*chunk); ok {
		return c
	}
	return &chunk{data: make([]byte, 1<<(class+minChunkBits)), kind: chunkKind(class)}
}

// free returns the chunk to its pool; unpooled memory is left to the garbage collector, scratch buffers and the
// slices of writers to their owners. The caller holds the last reference to c.
func (c *chunk) free() {
	if c.kind < 0 {
		return
	}
	c.r, c.w, c.next, c.viewed = 0, 0, nil, false
	chunkPools[c.kind].Put(c)
}

// len returns how many bytes c holds. c may be nil.
func (c *chunk) len() int {
	if c == nil {
		return 0
	}
	return c.w - c.r
}

// bytes returns the bytes that c holds. c may be nil.
func (c *chunk) bytes() []byte {
	if c == nil {
		return nil
	}
	return c.data[c.r:c.w]
}

// room returns a chunk with the bytes of c and space for n more: c itself, compacted if that is enough, or a larger
// one. The bytes of a viewed chunk are not moved, and its memory is left to the garbage collector. c may be nil.
func (c *chunk) room(n int) *chunk {
	if c == nil {
		return newChunk(n)
	}
	if c.kind != chunkScratch {
		if len(c.data)-c.w >= n {
			return c
		}
		if len(c.data)-c.len() >= n && !c.viewed {
			c.w = copy(c.data, c.bytes())
			c.r = 0
			return c
		}
	}
	d := c.clone(n)
	if !c.viewed {
		c.free()
	}
	return d
}

// clone returns a pooled chunk with the bytes of c and space for n more.
func (c *chunk) clone(n int) *chunk {
	d := newChunk(c.len() + n)
	d.w = copy(d.data, c.bytes())
	return d
}

// isSparse reports whether c has far more memory than bytes, so that an idle socket should not keep it.
func (c *chunk) isSparse() bool {
	return c.kind != chunkScratch && len(c.data) > 1<<minChunkBits && c.len() <= len(c.data)/8
}

// A chunkRing is a queue of chunks that takes one word: a circular list, known by its last element.
type chunkRing struct{ last *chunk }

func (q *chunkRing) empty() bool { return q.last == nil }

// first returns the first chunk. The ring must not be empty.
func (q *chunkRing) first() *chunk { return q.last.next }

func (q *chunkRing) push(c *chunk) {
	if q.last == nil {
		c.next = c
	} else {
		c.next, q.last.next = q.last.next, c
	}
	q.last = c
}

// shift removes the first chunk and returns it. The ring must not be empty.
func (q *chunkRing) shift() *chunk {
	c := q.first()
	q.remove(c)
	return c
}

// remove removes c, which is in the ring, and sets c.next to nil: a Write that waits for c sees from c.next that c is
// no longer queued.
func (q *chunkRing) remove(c *chunk) {
	p := q.last
	for p.next != c {
		p = p.next
	}
	if p == c {
		q.last = nil
	} else {
		p.next = c.next
		if q.last == c {
			q.last = p
		}
	}
	c.next = nil
}

// hasWriter reports whether the ring has a chunk of a Write that waits.
func (q *chunkRing) hasWriter() bool {
	if q.last == nil {
		return false
	}
	for c := q.first(); ; c = c.next {
		if c.kind == chunkWriter {
			return true
		}
		if c == q.last {
			return false
		}
	}
}

// clear removes all chunks and frees them.
func (q *chunkRing) clear() {
	for !q.empty() {
		q.shift().free()
	}
}

// appendCopy appends a copy of p. It first fills the free space of the last chunk, so that many small pieces share
// one.
func (q *chunkRing) appendCopy(p []byte) {
	if c := q.last; c != nil && c.kind != chunkWriter {
		n := copy(c.data[c.w:], p)
		c.w += n
		p = p[n:]
	}
	for len(p) > 0 {
		c := newChunk(min(len(p), maxSend))
		c.w = copy(c.data, p)
		q.push(c)
		p = p[c.w:]
	}
}
