package tcpserver_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
)

// The tests of this file make random calls for a while, as programs may, and check that the promises hold. They log
// their seed.

const stressTime = time.Second

// stress calls do repeatedly, in each of several goroutines, until stressTime has passed.
func stress(t *testing.T, workers int, do func(t *testing.T, random *rand.Rand)) {
	seed := rand.Uint64()
	t.Log("seed", seed)
	end := time.Now().Add(stressTime)
	var all sync.WaitGroup
	for i := range workers {
		all.Go(func() {
			for random := rand.New(rand.NewPCG(seed, uint64(i))); time.Now().Before(end) && !t.Failed(); {
				do(t, random)
			}
		})
	}
	all.Wait()
}

func TestStressReading(t *testing.T) {
	queue := new(tcpserver.Queue)
	run(t, queue)
	servers := map[string]*tcpserver.TcpServer{
		"loops":    {},
		"one loop": {Poller: pollerWithLoops(t, 1)},
		"executor": {Executor: queue.Post},
	}
	for name, server := range servers {
		t.Run(name, func(t *testing.T) {
			listen(t, server)
			var connecting sync.Mutex
			stress(t, 6, func(t *testing.T, random *rand.Rand) {
				connecting.Lock()
				socket, conn := connect(t, server)
				connecting.Unlock()
				stressReader(t, random, socket, conn)
			})
		})
	}
}

// A reader reads consecutive numbers of four bytes each in its handlers, and checks them.
type reader struct {
	t      *testing.T
	random *rand.Rand
	next   uint32
	part   []byte // an incomplete number
	got    atomic.Int64
	inside atomic.Int32
	ended  atomic.Bool
	done   chan error
}

func (r *reader) take(p []byte) {
	r.got.Add(int64(len(p)))
	for r.part = append(r.part, p...); len(r.part) >= 4; r.part = r.part[4:] {
		if n := binary.LittleEndian.Uint32(r.part); n != r.next {
			r.t.Errorf("got %d, want %d", n, r.next)
			r.next = n
		}
		r.next++
	}
}

func (r *reader) handlers() *tcpserver.SocketHandlers {
	return &tcpserver.SocketHandlers{
		ReadyRead: func(socket *tcpserver.TcpSocket) {
			if r.inside.Add(1) != 1 || r.ended.Load() {
				r.t.Error("ReadyRead was called during a handler or after Disconnected")
			}
			r.read(socket)
			r.inside.Add(-1)
		},
		BytesWritten: func(*tcpserver.TcpSocket, int) {},
		Disconnected: func(_ *tcpserver.TcpSocket, err error) {
			if r.inside.Load() != 0 || r.ended.Swap(true) {
				r.t.Error("Disconnected was called during a handler or twice")
			}
			r.done <- err
		},
	}
}

// read consumes at least one byte, by a method chosen at random.
func (r *reader) read(socket *tcpserver.TcpSocket) {
	try := func(n int) {
		p := make([]byte, n)
		n, _ = socket.TryRead(p)
		r.take(p[:n])
	}
	switch r.random.IntN(7) {
	case 0:
		r.take(socket.ReadAll())
	case 1:
		p := socket.Peek(r.random.IntN(100_000) + 1)
		n := r.random.IntN(len(p)+1) | min(len(p), 1)
		r.take(p[:min(n, len(p))])
		socket.Discard(min(n, len(p)))
	case 2:
		try(r.random.IntN(200_000) + 1)
	case 3:
		try(socket.BytesAvailable())
	case 4:
		for range r.random.IntN(5) {
			try(1000)
		}
		if r.random.IntN(50) == 0 {
			time.Sleep(15 * time.Millisecond) // the watchdog replaces the loop's goroutine
		}
		try(1)
	case 5:
		for line, ok := socket.ReadLine(); ok; line, ok = socket.ReadLine() {
			r.take(line)
		}
		try(70_000)
	case 6:
		socket.PauseReading()
		r.take(socket.ReadAll())
		if r.random.IntN(2) == 0 {
			socket.ResumeReading()
		} else {
			go socket.ResumeReading()
		}
	}
}

// interfere makes calls that other goroutines may make while the handlers read, until ctx ends.
func interfere(ctx context.Context, random *rand.Rand, socket tcpSocket, handlers *tcpserver.SocketHandlers) {
	pause := func() { time.Sleep(time.Duration(random.IntN(300)) * time.Microsecond) }
	wait := func(f func(context.Context) error) {
		ctx, cancel := context.WithTimeout(ctx, time.Millisecond)
		defer cancel()
		f(ctx)
	}
	for ctx.Err() == nil {
		switch random.IntN(9) {
		case 0:
			socket.PauseReading()
			pause()
			socket.ResumeReading()
		case 1:
			socket.SetReadBufferSize(1 + random.IntN(100_000))
		case 2:
			socket.BytesAvailable()
		case 3:
			socket.SetHandlers(handlers)
		case 4:
			socket.CanReadLine()
		case 5:
			wait(socket.WaitForReadyRead)
		case 6:
			wait(socket.WaitForDisconnected)
		case 7:
			socket.SetHandlers(nil)
			pause()
			socket.SetHandlers(handlers)
		case 8:
			pause()
		}
	}
	socket.SetHandlers(handlers)
	socket.ResumeReading()
}

func stressReader(t *testing.T, random *rand.Rand, socket *tcpserver.TcpSocket, conn io.WriteCloser) {
	r := &reader{t: t, random: rand.New(rand.NewPCG(random.Uint64(), 1)), done: make(chan error, 1)}
	handlers := r.handlers()
	ctx, cancel := context.WithCancel(within(t))
	var others sync.WaitGroup
	for range 2 {
		source := rand.New(rand.NewPCG(random.Uint64(), 2))
		others.Go(func() { interfere(ctx, source, socket, handlers) })
	}
	socket.SetHandlers(handlers)
	total, number := 0, uint32(0)
	for range 1 + random.IntN(100) {
		p := make([]byte, 0, 4*random.IntN(1+random.IntN(20_000)))
		for len(p) < cap(p) {
			p = binary.LittleEndian.AppendUint32(p, number)
			number++
		}
		if _, err := conn.Write(p); err != nil {
			t.Error(err)
		}
		total += len(p)
		if random.IntN(3) == 0 {
			time.Sleep(time.Duration(random.IntN(500)) * time.Microsecond)
		}
	}
	if random.IntN(2) == 0 {
		cancel()
		others.Wait()
	}
	for end := time.Now().Add(patience); r.got.Load() < int64(total); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Errorf("read %d of %d bytes; BytesAvailable: %d", r.got.Load(), total, socket.BytesAvailable())
			break
		}
	}
	conn.Close()
	if err := receive(t, r.done); err != nil {
		t.Error(err)
	}
	cancel()
	others.Wait()
}

// If the peer gets an end of stream, it has received every byte that Send and Write have taken.
func TestStressWriting(t *testing.T) {
	server := listen(t, &tcpserver.TcpServer{CloseTimeout: 20 * time.Millisecond})
	stress(t, 1, func(t *testing.T, random *rand.Rand) {
		socket, conn := connect(t, server)
		require.NoError(t, socket.SetWriteBuffer(16<<10))
		require.NoError(t, conn.SetReadBuffer(16<<10))
		if random.IntN(2) == 0 {
			socket.SetHandlers(&tcpserver.SocketHandlers{BytesWritten: func(*tcpserver.TcpSocket, int) {}})
		}
		var taken atomic.Int64
		var all sync.WaitGroup
		for range 2 {
			source := rand.New(rand.NewPCG(random.Uint64(), 3))
			all.Go(func() { taken.Add(stressWriter(source, socket)) })
		}
		source := rand.New(rand.NewPCG(random.Uint64(), 4))
		all.Go(func() {
			time.Sleep(time.Duration(source.IntN(5000)) * time.Microsecond)
			if source.IntN(2) == 0 {
				socket.CloseWrite()
			}
			if source.IntN(2) == 0 {
				socket.Close()
			}
		})
		done := make(chan struct{})
		go func() {
			defer close(done)
			all.Wait()
			socket.Close()
		}()
		got, err := readSlowly(t, random, conn)
		receive(t, done)
		if err == io.EOF && got != taken.Load() && resetsAreSeen() {
			t.Errorf("io.EOF after %d of %d bytes; Err: %v", got, taken.Load(), socket.Err())
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("the connection did not end; State:", socket.State())
		}
		conn.Close()
	})
}

// stressWriter sends at random and returns how many bytes Send and Write have taken.
func stressWriter(random *rand.Rand, socket *tcpserver.TcpSocket) (taken int64) {
	for range random.IntN(12) {
		p := make([]byte, random.IntN(1+random.IntN(400_000)))
		switch random.IntN(5) {
		case 0, 1:
			if socket.Send(p) == nil {
				taken += int64(len(p))
			}
		case 2, 3:
			n, _ := socket.Write(p)
			taken += int64(n)
		case 4:
			socket.SetWriteDeadline(time.Now().Add(time.Duration(random.IntN(3000)) * time.Microsecond))
		}
	}
	return taken
}

func readSlowly(t *testing.T, random *rand.Rand, conn interface {
	io.Reader
	SetReadDeadline(time.Time) error
}) (got int64, err error) {
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
	for p := make([]byte, 1<<(8+random.IntN(10))); err == nil; {
		var n int
		n, err = conn.Read(p)
		got += int64(n)
		if random.IntN(20) == 0 {
			time.Sleep(100 * time.Microsecond)
		}
	}
	return got, err
}
