package tcpserver

import "time"

// SetIdleTimeout has the connection ended with ErrIdleTimeout when nothing was taken from the system and nothing given
// to it for d; it is up to two tenths of a second late, never early. d <= 0: never. The default is TcpServer.IdleTimeout. Time counts
// from now.
func (s *TcpSocket) SetIdleTimeout(d time.Duration) {
	s.more().idle.Store(int64(max(d, 0)))
	s.watchIdle()
}

func (s *TcpSocket) idleTimeout() time.Duration {
	if x := s.extra.Load(); x != nil {
		if d := x.idle.Load(); d != idleInherited {
			return time.Duration(d)
		}
	}
	return s.ln.idleTimeout
}

// touch notes that something moved.
func (s *TcpSocket) touch() {
	if now := s.loop.wheel.now.Load(); s.stamp.Load() != now {
		s.stamp.Store(now)
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
	w := &s.loop.wheel
	s.wmu.Lock()
	defer s.wmu.Unlock()
	due := w.now.Load() + wheelStep(ticksFor(d))
	if s.state != StateUnconnected && (s.wheelDue == 0 || int32(due-s.wheelDue) < 0) {
		s.wheelDue = w.add(s.key, ticksFor(d))
	}
}

// onTick is the idle check. The wheel calls it on the loop.
func (s *TcpSocket) onTick(now uint32) uint32 {
	s.wmu.Lock()
	if s.wheelDue != now {
		s.wmu.Unlock()
		return 0
	}
	var again uint32
	expired := false
	if d := s.idleTimeout(); d > 0 {
		limit, idle := ticksFor(d), now-s.stamp.Load()
		expired = idle >= limit
		again = limit - min(idle, limit)
	}
	s.wheelDue = 0
	if again > 0 {
		s.wheelDue = now + wheelStep(again)
	}
	s.wmu.Unlock()
	if expired {
		s.end(ErrIdleTimeout)
	}
	return again
}
