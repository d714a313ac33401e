package msgserver

import (
	"time"

	"github.com/pullaccept/tcpserver/internal/sched"
)

// An updateTimer says when Update is due. A nil updateTimer never does.
type updateTimer struct {
	every  time.Duration
	at     time.Time // of the next update
	timer  *sched.Timer
	wakeup *sched.Cond // signalled when an update is due

	due bool // guarded by wakeup.L
}

// startUpdates returns an updateTimer for an update after every, which is UpdateTime.
func startUpdates(every time.Duration, wakeup *sched.Cond) *updateTimer {
	every = orDefault(every, time.Second)
	u := &updateTimer{every: every, at: time.Now().Add(every), wakeup: wakeup}
	u.timer = sched.AfterFunc(every, u.fire)
	return u
}

func (u *updateTimer) fire() {
	u.wakeup.L.Lock()
	defer u.wakeup.L.Unlock()
	u.due = true
	u.wakeup.Signal()
}

// take reports, once, whether an update is due. wakeup.L is held.
func (u *updateTimer) take() bool {
	if u == nil || !u.due {
		return false
	}
	u.due = false
	return true
}

// next sets the timer for the next update: every after the last one was due. Those that were missed are left out.
func (u *updateTimer) next() {
	u.at = u.at.Add(u.every + time.Since(u.at).Truncate(u.every))
	u.timer.Reset(time.Until(u.at))
}
