package tcpserver_test

import (
	"context"
	"errors"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
)

func TestRunPendingRunsOnlyFunctionsQueuedOnEntry(t *testing.T) {
	t.Parallel()
	var q tcpserver.Queue
	require.Zero(t, q.RunPending())
	var got []int
	for i := range 3 {
		q.Post(func() {
			got = append(got, i)
			q.Post(func() { got = append(got, 10+i) })
		})
	}
	require.Equal(t, 3, q.RunPending())
	require.Equal(t, []int{0, 1, 2}, got)
	require.Equal(t, 3, q.RunPending())
	require.Equal(t, []int{0, 1, 2, 10, 11, 12}, got)
	require.Zero(t, q.RunPending())
}

func TestRunPendingMayBeCalledRecursively(t *testing.T) {
	t.Parallel()
	var q tcpserver.Queue
	got, inner := 0, 0
	q.Post(func() { inner = q.RunPending() })
	for range 3 {
		q.Post(func() { got++ })
	}
	require.Equal(t, 4, q.RunPending()+inner)
	require.Equal(t, 3, got)
}

func TestQueueContinuesAfterPanic(t *testing.T) {
	t.Parallel()
	var q tcpserver.Queue
	ran := false
	q.Post(func() { panic("boom") })
	q.Post(func() { ran = true })
	require.Panics(t, func() { q.RunPending() })
	require.Equal(t, 1, q.RunPending())
	require.True(t, ran)
}

func TestWakeIsCalledWhenQueueBecomesNonEmpty(t *testing.T) {
	t.Parallel()
	wakes := 0
	q := tcpserver.Queue{Wake: func() { wakes++ }}
	for range 3 {
		q.Post(func() {})
	}
	require.Equal(t, 1, wakes)
	q.RunPending()
	require.Equal(t, 1, wakes)
	q.Post(func() { q.Post(func() {}) }) // posts again after the queue has become empty
	require.Equal(t, 2, wakes)
	q.RunPending()
	require.Equal(t, 3, wakes)
}

// RunPending does not run functions that are posted during the call, so Wake must announce them.
func TestWakeIsCalledForFunctionsLeftByRunPending(t *testing.T) {
	t.Parallel()
	wakes := 0
	q := tcpserver.Queue{Wake: func() { wakes++ }}
	q.Post(func() { q.Post(func() {}) })
	q.Post(func() {})
	require.Equal(t, 1, wakes)
	require.Equal(t, 2, q.RunPending())
	require.Equal(t, 2, wakes)
	for range 5 {
		q.Post(func() {})
	}
	require.Equal(t, 2, wakes, "one Wake must be enough for all of them")
	require.Equal(t, 6, q.RunPending())
	require.Equal(t, 2, wakes)
}

func TestWakeIsCalledForFunctionsLeftByPanic(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(){"panic": func() { panic("boom") }, "Goexit": runtime.Goexit} {
		wakes := 0
		q := tcpserver.Queue{Wake: func() { wakes++ }}
		q.Post(end)
		q.Post(func() {})
		var wg sync.WaitGroup
		wg.Go(func() {
			defer func() { recover() }()
			q.RunPending()
		})
		wg.Wait()
		require.Equal(t, 2, wakes, name)
		require.Equal(t, 1, q.RunPending(), name)
	}
}

func TestWakeIsCalledForFunctionsLeftByRun(t *testing.T) {
	t.Parallel()
	var wakes atomic.Int32
	q := tcpserver.Queue{Wake: func() { wakes.Add(1) }}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- q.Run(ctx) }()
	entered, release := make(chan struct{}), make(chan struct{})
	q.Post(func() {
		close(entered)
		<-release
	})
	receive(t, entered)
	cancel()
	q.Post(func() {})
	before := wakes.Load()
	close(release)
	require.Equal(t, context.Canceled, receive(t, done))
	require.Greater(t, wakes.Load(), before)
	require.Equal(t, 1, q.RunPending())
}

// Wake must be called for whatever is left, even if several goroutines run the queue, each only when it is woken.
func TestConcurrentRunPendingOnWakeRunsEverything(t *testing.T) {
	t.Parallel()
	const runners, chains, each = 3, 5, 2000
	frames := make(chan struct{}, 1)
	q := tcpserver.Queue{Wake: func() {
		select {
		case frames <- struct{}{}:
		default: // a frame is already requested
		}
	}}
	done := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(done)
	for range runners {
		wg.Go(func() {
			for {
				select {
				case <-frames:
					q.RunPending()
				case <-done:
					return
				}
			}
		})
	}
	ends := make(chan struct{}, chains)
	for range chains {
		left := each
		var next func()
		next = func() {
			if left--; left == 0 {
				ends <- struct{}{}
			} else {
				q.Post(next)
			}
		}
		q.Post(next)
	}
	for range chains {
		receive(t, ends)
	}
}

// Some toolkits run the queue in each frame, and draw a frame only when Wake asks for one.
func TestServersShareQueueThatRunsOnlyOnWake(t *testing.T) {
	t.Parallel()
	const servers, clients, messages = 3, 8, 200
	frames := make(chan struct{}, 1)
	q := tcpserver.Queue{Wake: func() {
		select {
		case frames <- struct{}{}:
		default: // a frame is already requested
		}
	}}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-frames:
				q.RunPending()
			case <-done:
				return
			}
		}
	})
	defer wg.Wait()
	defer close(done)
	failed := make(chan error, servers*clients)
	for range servers {
		server := listen(t, &tcpserver.TcpServer{Executor: q.Post, NewConnectionHandler: serveEcho})
		defer until(t, func() bool { return server.ConnectionCount() == 0 })
		for range clients {
			go func() { failed <- exchangeMessages(server.Addr().String(), messages) }()
		}
	}
	for range servers * clients {
		require.NoError(t, receive(t, failed))
	}
}

// exchangeMessages sends messages to an echo server and receives each before it sends the next.
func exchangeMessages(addr string, messages int) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	buf := make([]byte, 1)
	for range messages {
		if _, err := conn.Write(buf); err != nil {
			return err
		}
		if _, err := conn.Read(buf); err != nil {
			return err
		}
	}
	return nil
}

// Wake may itself draw the frame that runs the queue.
func TestWakeMayCallRunPending(t *testing.T) {
	t.Parallel()
	var q tcpserver.Queue
	ran := 0
	q.Wake = func() { ran += q.RunPending() }
	q.Post(func() {})
	q.Post(func() {})
	require.Equal(t, 2, ran)
}

func TestRunReturnsWhenContextEnds(t *testing.T) {
	t.Parallel()
	var q tcpserver.Queue
	ran := make(chan struct{})
	q.Post(func() { ran <- struct{}{} }) // before Run is called
	cause := errors.New("enough")
	for range 3 {
		ctx, cancel := context.WithCancelCause(context.Background())
		defer cancel(nil)
		done := make(chan error)
		go func() { done <- q.Run(ctx) }()
		receive(t, ran)
		for range 100 { // Run may sleep between them
			q.Post(func() { ran <- struct{}{} })
			receive(t, ran)
		}
		cancel(cause)
		require.Equal(t, context.Canceled, receive(t, done))
		q.Post(func() { ran <- struct{}{} }) // for the next Run
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.Equal(t, context.Canceled, q.Run(ctx))
}

func TestRunReturnsEvenIfQueueIsNeverEmpty(t *testing.T) {
	t.Parallel()
	var q tcpserver.Queue
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	n := 0
	var again func()
	again = func() {
		if n++; n == 1000 {
			cancel()
		}
		q.Post(again)
	}
	q.Post(again)
	require.Equal(t, context.Canceled, q.Run(ctx))
	require.Equal(t, 1000, n)
}

func TestConcurrentPostsAllRunInOrder(t *testing.T) {
	t.Parallel()
	const posters, each = 8, 2000
	var wakes atomic.Int32
	q := tcpserver.Queue{Wake: func() { wakes.Add(1) }}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var last [posters]int // written only by Run's goroutine; otherwise the race detector reports it
	ran := 0
	var wg sync.WaitGroup
	for i := range posters {
		wg.Go(func() {
			for j := 1; j <= each; j++ {
				q.Post(func() {
					if last[i] != j-1 {
						t.Errorf("function %d ran after function %d", j, last[i])
					}
					last[i] = j
					if ran++; ran == posters*each {
						cancel()
					}
				})
			}
		})
	}
	require.Equal(t, context.Canceled, q.Run(ctx))
	wg.Wait()
	require.Equal(t, posters*each, ran)
	require.Positive(t, wakes.Load())
}

// A Run that returns must not consume the notification that there is something to run.
func TestRunThatReturnsLeavesRestToAnotherRun(t *testing.T) {
	t.Parallel()
	var q tcpserver.Queue
	run := func() (stop func()) {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- q.Run(ctx) }()
		return func() { cancel(); receive(t, done) }
	}
	t.Cleanup(run())
	ran := make(chan struct{})
	for range 100 {
		stop := run()
		q.Post(func() { ran <- struct{}{} })
		receive(t, ran)
		var wg sync.WaitGroup
		wg.Go(stop)
		q.Post(func() { ran <- struct{}{} })
		receive(t, ran)
		wg.Wait()
	}
}
