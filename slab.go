package tcpserver

// A slotKey names one source's use of a slot. The next source of the slot gets another generation, so that an event
// for the previous one reaches nobody.
type slotKey struct{ slot, gen uint32 }

// A slab is a table of slots. It grows by pages and never moves a slot. Free slots form a list. loop.mu guards it.
type slab struct {
	pages []*[slabPage]slot
	used  uint32 // how many slots have ever been taken
	spare uint32 // first free slot + 1, or 0 if there is none
}

const slabPage = 512

type slot struct {
	source source
	gen    uint32
	next   uint32 // next free slot + 1, or 0 if there is none
}

// ref returns slot i, which has been taken before.
func (s *slab) ref(i uint32) *slot { return &s.pages[i/slabPage][i%slabPage] }

// take gives src a slot and returns its key.
func (s *slab) take(src source) slotKey {
	i := s.spare - 1
	if s.spare != 0 {
		s.spare = s.ref(i).next
	} else {
		i = s.used
		s.used++
		if int(i/slabPage) == len(s.pages) {
			s.pages = append(s.pages, new([slabPage]slot))
		}
	}
	p := s.ref(i)
	p.source = src
	return slotKey{i, p.gen}
}

// free takes back the slot of k. From then on k names nothing.
func (s *slab) free(k slotKey) {
	p := s.ref(k.slot)
	p.source = nil
	p.gen++
	p.next, s.spare = s.spare, k.slot+1
}

// at returns the source of k, or nil if that has given up its slot.
func (s *slab) at(k slotKey) source {
	if k.slot >= s.used {
		return nil
	}
	if p := s.ref(k.slot); p.gen == k.gen {
		return p.source
	}
	return nil
}

// sources returns all sources that have a slot.
func (s *slab) sources() []source {
	var all []source
	for i := range s.used {
		if src := s.ref(i).source; src != nil {
			all = append(all, src)
		}
	}
	return all
}
