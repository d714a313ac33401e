package tcpserver

import (
	"bytes"
	"math/rand/v2"
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
