package tcpserver

import "time"

// SetIdleTimeout sets how long the system may neither deliver nor take any bytes before the connection ends with
// [ErrIdleTimeout]. The timeout is up to two tenths of a second late, plus any delay of the event loop, but never
// early. If d <= 0, there is no timeout. The default is [TcpServer.IdleTimeout]. The time counts from the call.
func (s *TcpSocket) SetIdleTimeout(d time.Duration) {
	s.markActive() // before the timeout is shortened
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

// touch records that bytes were received or sent, if there is an idle timeout.
func (s *TcpSocket) touch() {
	if s.idleTimeout() > 0 {
		s.markActive()
	}
}

// markActive moves lastActive to the present tick, and never back: others may be faster. It takes the clock's tick
// rather than the wheel's, because the loop may be late.
func (s *TcpSocket) markActive() {
	now := s.loop.tick()
	for {
		last := s.lastActive.Load()
		if int32(now-last) <= 0 || s.lastActive.CompareAndSwap(last, now) {
			return
		}
	}
}

// watchIdle adds the socket to the wheel of its loop if it has an idle timeout. Only the entry that comes up at
// wheelDue counts. It is replaced only by an earlier one, so that few stale entries remain.
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

// onTick ends the socket if it has been idle for long enough. The wheel calls it on the loop, at tick now or later,
// so lastActive may be after now.
func (s *TcpSocket) onTick(now uint32) uint32 {
	s.wmu.Lock()
	if s.wheelDue != now {
		s.wmu.Unlock()
		return 0
	}
	s.wheelDue = 0
	left, ended := int32(0), false // ticks until the timeout
	if d := s.idleTimeout(); d > 0 {
		left = int32(s.lastActive.Load() + ticksFor(d) - now)
		if left > 0 {
			s.wheelDue = dueAfter(now, uint32(left))
		} else {
			ended = s.beginEnd(ErrIdleTimeout)
		}
	}
	s.wmu.Unlock()
	if ended {
		s.finishEnd()
	}
	return uint32(max(left, 0))
}
