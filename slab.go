package tcpserver

// A slotKey names a tenancy: the same slot has another generation for its next tenant, so that an event of the
// previous one reaches nobody.
type slotKey struct{ slot, gen uint32 }

// A slab is a table of slots that grows by pages and never moves. Free slots form a list.
type slab struct {
	pages []*[slabPage]slot
	used  uint32 // slots that have ever been taken
	spare uint32 // first free slot + 1; 0: none
}

const slabPage = 512

type slot struct {
	source source
	gen    uint32
	next   uint32 // the next free slot + 1
}

func (s *slab) ref(i uint32) *slot { return &s.pages[i/slabPage][i%slabPage] }

func (s *slab) take(t source) slotKey {
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
	p.source = t
	return slotKey{i, p.gen}
}

func (s *slab) free(k slotKey) {
	p := s.ref(k.slot)
	p.source = nil
	p.gen++
	p.next, s.spare = s.spare, k.slot+1
}

// at returns nil if the tenancy is over.
func (s *slab) at(k slotKey) source {
	if k.slot >= s.used {
		return nil
	}
	if p := s.ref(k.slot); p.gen == k.gen {
		return p.source
	}
	return nil
}

func (s *slab) sources() []source {
	var all []source
	for i := range s.used {
		if t := s.ref(i).source; t != nil {
			all = append(all, t)
		}
	}
	return all
}
