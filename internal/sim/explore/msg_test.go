//go:build sim

package explore

import (
	"testing"
	"testing/synctest"

	"github.com/pullaccept/tcpserver/internal/sched"
)

// runMsg is run for a MsgProgram.
func runMsg(t *testing.T, p *MsgProgram, trace bool) (o sched.Outcome) {
	synctest.Test(t, func(*testing.T) { o = RunMsg(p, trace) })
	return o
}

func TestMessageSeedsFindNothing(t *testing.T)     { findNothing(t, runMsg, GenerateMsg) }
func TestSameMessageSeedGivesSameRun(t *testing.T) { isSame(t, runMsg, GenerateMsg) }

func TestSameMessageSeedGivesSameRunInAnotherProcess(t *testing.T) {
	isSameInAnotherProcess(t, "TestMessageSeedsFindNothing")
}
