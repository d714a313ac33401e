package tcpserver

import "time"

// SetIdleTimeout has the connection ended with ErrIdleTimeout when nothing was taken from the system and nothing given
// to it for d. That is up to two tenths of a second late, and later by what the loop is late, but never early. d <= 0:
// never. The default is TcpServer.IdleTimeout. Time counts from now.
func (s *TcpSocket) SetIdleTimeout(d time.Duration) {
	s.cold().idle.Store(int64(max(d, 0)))
	s.watchIdle()
}

func (s *TcpSocket) idleTimeout() time.Duration {
	if x := s.coldState.Load(); x != nil {
		if d := x.idle.Load(); d != idleInherited {
			return time.Duration(d)
		}
	}
	return s.config.idleTimeout
}

// touch notes that something moved, if that matters.
func (s *TcpSocket) touch() {
	if s.idleTimeout() <= 0 {
		return
	}
	// The clock, and not how far the wheel has been turned: the loop may be late.
	if now := s.loop.tick(); s.lastActive.Load() != now {
		s.lastActive.Store(now)
	}
}

// watchIdle puts the socket on the wheel of its loop if it has an idle timeout. The entry that comes up at
// wheelDue counts; it is replaced only by an earlier one, so that few others are left over.
func (s *TcpSocket) watchIdle() {
	s.touch()
	d := s.idleTimeout()
	if d <= 0 {
		return
	}
	s.wmu.Lock()
	defer s.wmu.Unlock()
	if s.state != StateUnconnected {
		s.wheelDue = s.loop.wheel.add(s.key, ticksFor(d), s.wheelDue)
	}
}

// onTick is the idle check. The wheel calls it on the loop, at tick now or later: the stamp may be of after it.
func (s *TcpSocket) onTick(now uint32) uint32 {
	s.wmu.Lock()
	if s.wheelDue != now {
		s.wmu.Unlock()
		return 0
	}
	s.wheelDue = 0
	var left int32 // ticks; 0 or less: the socket has been idle for long enough
	d := s.idleTimeout()
	if d > 0 {
		if left = int32(s.lastActive.Load() + ticksFor(d) - now); left > 0 {
			s.wheelDue = dueAfter(now, uint32(left))
		}
	}
	s.wmu.Unlock()
	if d > 0 && left <= 0 {
		s.end(ErrIdleTimeout)
	}
	return uint32(max(left, 0))
}
