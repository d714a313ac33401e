package tcpserver_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pullaccept/tcpserver"
)

func TestRunPendingRunsInOrderWhatWasQueuedOnEntry(t *testing.T) {
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

func TestRunPendingMayBeCalledByWhatItRuns(t *testing.T) {
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

func TestQueueGoesOnAfterAPanic(t *testing.T) {
	t.Parallel()
	var q tcpserver.Queue
	ran := false
	q.Post(func() { panic("boom") })
	q.Post(func() { ran = true })
	require.Panics(t, func() { q.RunPending() })
	require.Equal(t, 1, q.RunPending())
	require.True(t, ran)
}

func TestWakeIsCalledWhenTheQueueBecomesNonEmpty(t *testing.T) {
	t.Parallel()
	wakes := 0
	q := tcpserver.Queue{Wake: func() { wakes++ }}
	for range 3 {
		q.Post(func() {})
	}
	require.Equal(t, 1, wakes)
	q.RunPending()
	require.Equal(t, 1, wakes)
	q.Post(func() { q.Post(func() {}) }) // posts again when it has left the queue empty
	require.Equal(t, 2, wakes)
	q.RunPending()
	require.Equal(t, 3, wakes)
}

// A program may ask for the next frame, which runs the queue, in Wake.
func TestWakeMayUseTheQueue(t *testing.T) {
	t.Parallel()
	var q tcpserver.Queue
	ran := 0
	q.Wake = func() { ran += q.RunPending() }
	q.Post(func() {})
	q.Post(func() {})
	require.Equal(t, 2, ran)
}

func TestRunGoesOnUntilTheContextEnds(t *testing.T) {
	t.Parallel()
	var q tcpserver.Queue
	ran := make(chan struct{})
	q.Post(func() { ran <- struct{}{} }) // before anybody runs the queue
	cause := errors.New("enough")
	for range 3 {
		ctx, cancel := context.WithCancelCause(context.Background())
		defer cancel(nil)
		over := make(chan error)
		go func() { over <- q.Run(ctx) }()
		receive(t, ran)
		for range 100 { // Run sleeps between them, or not
			q.Post(func() { ran <- struct{}{} })
			receive(t, ran)
		}
		cancel(cause)
		require.Equal(t, context.Canceled, receive(t, over))
		q.Post(func() { ran <- struct{}{} }) // for the next one
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.Equal(t, context.Canceled, q.Run(ctx))
}

func TestRunEndsAlthoughTheQueueNeverIsEmpty(t *testing.T) {
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

func TestPostsOfManyGoroutinesAllRun(t *testing.T) {
	t.Parallel()
	const posters, each = 8, 2000
	var wakes atomic.Int32
	q := tcpserver.Queue{Wake: func() { wakes.Add(1) }}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var last [posters]int // written by Run's goroutine alone, or the race detector says so
	ran := 0
	var wg sync.WaitGroup
	for i := range posters {
		wg.Go(func() {
			for j := 1; j <= each; j++ {
				q.Post(func() {
					if last[i] != j-1 {
						t.Errorf("%d after %d", j, last[i])
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

// One that ends must not take with it the news that there is something to run.
func TestRunThatEndsLeavesTheRestToAnother(t *testing.T) {
	t.Parallel()
	var q tcpserver.Queue
	run := func() (stop func()) {
		ctx, cancel := context.WithCancel(context.Background())
		over := make(chan error, 1)
		go func() { over <- q.Run(ctx) }()
		return func() { cancel(); receive(t, over) }
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
