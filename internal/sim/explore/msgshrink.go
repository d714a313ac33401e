//go:build sim

package explore

import "slices"

func (p *MsgProgram) setSeed(seed uint64) { p.Seed = seed }

func (p *MsgProgram) smaller() (all []*MsgProgram) {
	try := func(change func(q *MsgProgram)) {
		q := p.clone()
		change(q)
		if q.Source() != p.Source() {
			all = append(all, q)
		}
	}
	for i := range p.Clients {
		try(func(q *MsgProgram) { q.Clients = slices.Delete(q.Clients, i, i+1) })
	}
	for i := range p.Users {
		try(func(q *MsgProgram) { q.Users = slices.Delete(q.Users, i, i+1) })
	}
	for i := range len(p.Rounds) - 1 {
		try(func(q *MsgProgram) { q.Rounds = slices.Delete(q.Rounds, i, i+1) })
	}
	for _, change := range []func(q *MsgProgram){
		func(q *MsgProgram) { q.Stalls = false },
		func(q *MsgProgram) { q.System = System{} },
		func(q *MsgProgram) { q.Peer = Peer{} },
		func(q *MsgProgram) { q.Server = MsgServer{Loop: q.Server.Loop} },
		func(q *MsgProgram) { q.Server.Run, q.Server.Reuse, q.Server.Whole = false, false, false },
		func(q *MsgProgram) { q.Server.Decoder, q.Server.DecoderMax, q.Server.Header = 0, 0, 0 },
		func(q *MsgProgram) { q.Server.MaxBuffer, q.Server.Buffer = 0, 0 },
		func(q *MsgProgram) { q.Server.Lag, q.Server.Update, q.Server.Close, q.Server.Idle = 0, 0, 0, 0 },
		func(q *MsgProgram) { q.Server.MaxSend = 0 },
		func(q *MsgProgram) { q.Server.NoUpdate, q.Server.NoAfterEvent = true, true },
		func(q *MsgProgram) { q.Server.Loops, q.Server.WorkExecutor, q.Server.HalfOpen = 0, false, false },
		func(q *MsgProgram) { q.Server.ReadBuffer, q.Server.WriteBuffer, q.Server.MaxPending = 0, 0, 0 },
		func(q *MsgProgram) { q.Server.Threads, q.Server.PerThread, q.Server.RefuseEvery = 0, 0, 0 },
		func(q *MsgProgram) { q.System.SendBuffer, q.System.ReceiveBuffer, q.System.Segments = 0, 0, 0 },
		func(q *MsgProgram) {
			q.System.Style, q.System.Taken, q.System.Abort, q.System.Drop = 0, false, false, false
		},
		func(q *MsgProgram) { q.System.FaultEvery = 0 },
	} {
		try(change)
	}
	for i := range countSteps(p.scripts()) {
		try(func(q *MsgProgram) { dropStep(q.scripts(), i) })
	}
	return all
}

// clone returns a copy that shares nothing with p.
func (p *MsgProgram) clone() *MsgProgram {
	q := *p
	q.Clients, q.Users, q.Said = slices.Clone(p.Clients), slices.Clone(p.Users), slices.Clone(p.Said)
	q.Rounds = slices.Clone(p.Rounds)
	for _, s := range q.scripts() {
		*s = slices.Clone(*s)
	}
	return &q
}

// scripts returns all lists of steps.
func (p *MsgProgram) scripts() (all []*Script) {
	for _, scripts := range [][]Script{p.Clients, p.Users, p.Said} {
		for i := range scripts {
			all = append(all, &scripts[i])
		}
	}
	a := &p.Acts
	return append(all, &a.Connected, &a.Disconnected, &a.Update, &a.After, &a.Failed, &a.Decode)
}
