package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
)

// QueueOf holds keys to reconcile, each at most once; a key added while it is worked on is handed out again afterwards.
type QueueOf[K comparable] interface {
	workqueue.TypedRateLimitingInterface[K]
}

// Queue is one for objects of one kind, which most loops work on.
type Queue = QueueOf[Key]

// NewQueue returns an empty queue for objects of one kind.
func NewQueue() Queue { return NewQueueOf[Key]() }

// NewQueueOf returns an empty queue. It holds a goroutine until ShutDown, which RunLoop calls.
func NewQueueOf[K comparable]() QueueOf[K] {
	return workqueue.NewTypedRateLimitingQueueWithConfig(
		workqueue.NewTypedItemExponentialFailureRateLimiter[K](5*time.Millisecond, 30*time.Second),
		workqueue.TypedRateLimitingQueueConfig[K]{Clock: restingClock{}})
}

// restingClock is the real one but for tickers. A queue has one to look up every 10 s whether or not anything waits, for which it has
// timers: the queues of a Master would wake it twice a second while nothing happens.
type restingClock struct{ clock.RealClock }

// NewTicker implements clock.WithTicker: it never ticks.
func (restingClock) NewTicker(time.Duration) clock.Ticker { return noTicker{} }

type noTicker struct{}

func (noTicker) C() <-chan time.Time { return nil }
func (noTicker) Stop()               {}

// LoopConfig describes one controller loop.
type LoopConfig[K comparable] struct {
	Name    string
	Queue   QueueOf[K]
	Workers int // zero means one
	Log     *slog.Logger
	Metrics *LoopMetrics
	// Reconcile brings the world closer to what is wanted of key. It is never called for one key by two workers at
	// once. An error puts the key back with backoff, and so does a panic; a positive requeueAfter calls it again then.
	Reconcile func(ctx context.Context, key K) (requeueAfter time.Duration, err error)
}

// RunLoop calls Reconcile for the keys of the queue until ctx ends, then shuts the queue down, waits for the workers
// and returns ctx's error.
func RunLoop[K comparable](ctx context.Context, c LoopConfig[K]) error {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	stop := context.AfterFunc(ctx, c.Queue.ShutDown)
	defer stop()
	series := c.Metrics.begin(c.Name, func() float64 { return float64(c.Queue.Len()) })
	defer series.end()
	var g errgroup.Group
	for range max(c.Workers, 1) {
		g.Go(func() error {
			for c.work(ctx, series) {
			}
			return nil
		})
	}
	_ = g.Wait()
	return ctx.Err()
}

// work handles one key and reports whether there may be another.
func (c *LoopConfig[K]) work(ctx context.Context, series *loopSeries) bool {
	key, shutdown := c.Queue.Get()
	if shutdown {
		return false
	}
	defer c.Queue.Done(key)
	if ctx.Err() != nil {
		return true // drain: the queue hands out what it holds before it says that it is shut down
	}
	start := time.Now()
	after, err := c.reconcile(ctx, key)
	series.worked(start, err != nil && ctx.Err() == nil, errors.Is(err, errPanicked))
	c.Log.Debug("reconciled", "controller", c.Name, "key", fmt.Sprint(key), "took", time.Since(start), "err", err)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		// A conflict only says that the cache was behind; the event that makes it catch up is on its way.
		if !apierrors.IsConflict(err) && !errors.Is(err, context.Canceled) {
			c.Log.Warn("reconcile, will retry", "controller", c.Name, "key", fmt.Sprint(key), "err", err)
		}
		c.Queue.AddRateLimited(key)
	default:
		c.Queue.Forget(key)
		if after > 0 {
			c.Queue.AddAfter(key, after)
		}
	}
	return true
}

var errPanicked = errors.New("panic")

// Panicked is what a loop logs of a call that panicked.
const Panicked = "reconcile panicked, will retry"

// reconcile calls Reconcile, and makes an error of a panic: one object that a controller cannot bear must not end one Master after the other.
func (c *LoopConfig[K]) reconcile(ctx context.Context, key K) (after time.Duration, err error) {
	defer func() {
		if p := recover(); p != nil {
			c.Log.Error(Panicked, "controller", c.Name, "key", fmt.Sprint(key), "panic", p, "stack", string(debug.Stack()))
			after, err = 0, fmt.Errorf("%w: %v", errPanicked, p)
		}
	}()
	return c.Reconcile(ctx, key)
}

// Syncer is a cache of any type.
type Syncer interface{ Synced() <-chan struct{} }

// WaitSynced blocks until every cache has its first list.
func WaitSynced(ctx context.Context, caches ...Syncer) error {
	for _, c := range caches {
		select {
		case <-c.Synced():
		case <-ctx.Done():
			return fmt.Errorf("wait for caches: %w", context.Cause(ctx))
		}
	}
	return nil
}
