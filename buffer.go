package tcpserver

import (
	"math/bits"
	"sync"
)

// A chunk holds bytes on their way: data[r:w] are still to be taken.
type chunk struct {
	data   []byte
	r, w   int
	next   *chunk // in a chunkRing
	kind   chunkKind
	viewed bool // somebody may hold a slice of data[r:w], from Peek
}

// chunkKind says whose memory the data of a chunk is: a value of 0 or more is the size class of a pooled chunk.
type chunkKind int8

const (
	chunkUnpooled chunkKind = -1 - iota // larger than the largest class
	chunkScratch                        // the scratch buffer of a desk, while a handler runs
	chunkWriter                         // the slice of somebody who waits in Write
)

// Pooled chunks have 1 KiB to 1 MiB, in powers of two. An idle socket has none.
const (
	minChunkBits = 10
	maxChunkBits = 20
	scratchBits  = 16 // of what a loop reads into
)

var chunkPools [maxChunkBits - minChunkBits + 1]sync.Pool

// newChunk returns an empty chunk with room for n bytes or more.
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

// free gives the chunk back. The caller holds the last reference to it.
func (c *chunk) free() {
	if c.kind < 0 {
		return
	}
	c.r, c.w, c.next, c.viewed = 0, 0, nil, false
	chunkPools[c.kind].Put(c)
}

// len is 0 for a nil chunk.
func (c *chunk) len() int {
	if c == nil {
		return 0
	}
	return c.w - c.r
}

// bytes are those still to be taken; none for a nil chunk.
func (c *chunk) bytes() []byte {
	if c == nil {
		return nil
	}
	return c.data[c.r:c.w]
}

// room returns a chunk with the bytes of c and space for n more: c itself, compacted if that is enough, or a larger
// one. The bytes of a viewed chunk stay where they are, and its memory is left to the garbage collector. c may be nil.
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

// A chunkRing is a queue of chunks in one word: a circular list known by its last element.
type chunkRing struct{ last *chunk }

func (q *chunkRing) empty() bool { return q.last == nil }

func (q *chunkRing) first() *chunk { return q.last.next }

func (q *chunkRing) push(c *chunk) {
	if q.last == nil {
		c.next = c
	} else {
		c.next, q.last.next = q.last.next, c
	}
	q.last = c
}

// shift takes the first chunk out.
func (q *chunkRing) shift() *chunk {
	c := q.first()
	q.remove(c)
	return c
}

// remove takes c out, which is in the ring. Its next is nil then, which tells who waits for it.
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

// hasWriter reports whether somebody waits in Write.
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

// clear takes everything out and gives it back.
func (q *chunkRing) clear() {
	for !q.empty() {
		q.shift().free()
	}
}

// appendCopy adds a copy of p, filling what the last chunk has free first, so that many small pieces share one.
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
