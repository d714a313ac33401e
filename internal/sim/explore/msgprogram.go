//go:build sim

package explore

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/pullaccept/tcpserver/internal/sched"
)

// A MsgProgram is everything that a run of a server of package msgserver depends on.
type MsgProgram struct {
	Seed     uint64 // of what is chosen while it runs
	Schedule sched.Strategy
	Stalls   bool
	System   System
	Peer     Peer
	Server   MsgServer
	Clients  []Script
	Users    []Script // each runs on a goroutine of its own
	Said     []Script // what a message makes the server do
	Acts     MsgActs
	Rounds   []Round // calls of Serve, one after another; the last one ends when everything else has
}

// A Peer is the configuration of the clients' systems.
type Peer struct {
	WindowStep  int
	HideUnacked bool // the server's system does not tell what they have received
}

// A MsgServer is the configuration of the server.
type MsgServer struct {
	Loop         bool // a ServerLoop; otherwise a ThreadServer
	Run          bool // called by Run; otherwise by Serve
	Reuse        bool // Serve is called with the same TcpServer each time; otherwise with a new one
	Decoder      Decoder
	DecoderMax   int
	Whole        bool // ProcessClientData handles all messages that it is shown
	NoUpdate     bool
	NoAfterEvent bool

	MaxBuffer, Buffer, Header, MaxSend int
	Threads, PerThread                 int
	Lag, Update, Close, Idle           time.Duration

	Loops        int // of a poller of its own; 0 means the shared one
	WorkExecutor bool
	HalfOpen     bool
	ReadBuffer   int
	WriteBuffer  int
	MaxPending   int
	RefuseEvery  int // ClientConnected refuses every so many-th client
}

// A Decoder says what a message is.
type Decoder uint8

// The decoders of package msgserver.
const (
	LineDecoder    Decoder = iota
	Prefix16               // LengthPrefix16, big endian
	Prefix16Little         // and little endian
	Prefix32
	Words // Split with bufio.ScanWords
	decoders
)

// MsgActs is what callbacks do.
type MsgActs struct {
	Connected, Disconnected, Update, After, Failed, Decode Script
}

// A Round is a call of Serve.
type Round struct {
	End   RoundEnd
	After int // milliseconds after its beginning
}

// A RoundEnd is what ends a round.
type RoundEnd uint8

// The ways of ending a round.
const (
	Deadline    RoundEnd = iota // of the context
	Cancel                      // of the context
	CloseServer                 // Close of the TcpServer
	roundEnds
)

// The acts of clients and of the program that only a MsgProgram has.
const (
	MSay    Act = acts + iota // sends message of N bytes with script T
	MBad                      // sends a message that cannot be decoded
	MFinal                    // sends a message after which nothing is decoded
	MCrash                    // sends a message that makes the decoder panic
	MBurst                    // sends N short messages with script T at once
	MPart                     // sends N bytes of a message that does not end
	MReader                   // reads N bytes per second in the background from now on; 0 means as fast as possible
	MToAdd                    // connects to the listener whose connections are added by AddSocket

	// Of callbacks and goroutines of the program.
	MReply // to the client that the callback concerns
	MSend  // to client T
	MStop  // the client that the callback concerns
	MStopOther
	MAbort
	MCloseSocket
	MPanic
	MFail
	MWork
	MGo
	MClients
	MAdd
	MAgain
	MEnd
	msgActs
)

func init() {
	actNames = append(actNames, strings.Fields(`MSay MBad MFinal MCrash MBurst MPart MReader MToAdd
		MReply MSend MStop MStopOther MAbort MCloseSocket MPanic MFail MWork MGo MClients MAdd MAgain MEnd`)...)
}

// Source returns the program as Go code that can be put into a test of this package.
func (p *MsgProgram) Source() string {
	var b strings.Builder
	b.WriteString("&MsgProgram{\n")
	fmt.Fprintf(&b, "\tSeed: %#x, Stalls: %v,\n", p.Seed, p.Stalls)
	fmt.Fprintf(&b, "\tSchedule: sched.Strategy{%s},\n", fields(p.Schedule))
	fmt.Fprintf(&b, "\tSystem: System{%s},\n", fields(p.System))
	fmt.Fprintf(&b, "\tPeer: Peer{%s},\n", fields(p.Peer))
	fmt.Fprintf(&b, "\tServer: MsgServer{%s},\n", fields(p.Server))
	writeScripts(&b, "\tClients: ", p.Clients)
	writeScripts(&b, "\tUsers: ", p.Users)
	writeScripts(&b, "\tSaid: ", p.Said)
	fmt.Fprintf(&b, "\tActs: MsgActs{%s},\n", p.Acts)
	fmt.Fprintf(&b, "\tRounds: %#v,\n}", p.Rounds)
	return strings.ReplaceAll(b.String(), "explore.", "")
}

// String returns the fields as they are written in a program.
func (a MsgActs) String() string {
	var all []string
	v := reflect.ValueOf(a)
	for i := range v.NumField() {
		if s := v.Field(i).Interface().(Script); len(s) > 0 {
			all = append(all, fmt.Sprintf("%s: Script%v", v.Type().Field(i).Name, s))
		}
	}
	return strings.Join(all, ", ")
}
