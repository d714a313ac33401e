package tcpserver

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A fakeSource records the ticks at which the wheel calls it.
type fakeSource struct {
	postOnly
	again  uint32 // returned by onTick
	at     []uint32
	called func() // called by onTick if not nil
}

func (f *fakeSource) onPost(*scratch) {}

func (f *fakeSource) onTick(now uint32) uint32 {
	f.at = append(f.at, now)
	if f.called != nil {
		f.called()
	}
	return f.again
}

func TestReusedSlotHasNewKey(t *testing.T) {
	var s slab
	first, second := new(fakeSource), new(fakeSource)
	old := s.take(first)
	s.free(old)
	key := s.take(second)
	assert.Equal(t, old.slot, key.slot)
	assert.Nil(t, s.at(old))
	assert.Same(t, second, s.at(key))
	assert.Nil(t, s.at(slotKey{slot: ^uint32(0)}))
}

func TestSlabKeepsSourcesApart(t *testing.T) {
	var s slab
	random := rand.New(rand.NewPCG(5, 6))
	live := map[slotKey]*fakeSource{}
	for range 5 * slabPage {
		if source := new(fakeSource); random.IntN(3) > 0 {
			key := s.take(source)
			require.NotContains(t, live, key)
			live[key] = source
		} else {
			for key := range live {
				s.free(key)
				delete(live, key)
				break
			}
		}
	}
	for key, source := range live {
		require.Same(t, source, s.at(key))
	}
	assert.Len(t, s.sources(), len(live))
}
