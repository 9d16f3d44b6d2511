// Package controller holds the Master's reconcile loops, one file a controller. Each is given keys of objects that may
// have changed, reads everything it needs from caches, writes the difference between what is and what should be, and
// returns; so it is right when run twice, after a lost event, or by the next Master half-way through. No controller
// calls another or remembers what the store does not hold. Used by package master, for the length of one term.
package controller

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/master/controller/quota"
)

// Liveness tells what gossip believes of a Node's machine. It is safe for concurrent use.
type Liveness interface {
	Liveness(node string) api.Liveness
	// Changed returns a channel that is closed at the next change of any Node's state; get it before reading.
	Changed() <-chan struct{}
}

// Config is what the controllers work with during one term.
type Config struct {
	Client   client.Interface
	Caches   *Caches          // not yet run
	Events   *client.Recorder // may be nil
	Liveness Liveness
	Now      func() time.Time // time.Now when nil
	Log      *slog.Logger     // nil discards
	Metrics  *client.LoopMetrics
	// CA returns whom the API's certificates are signed by, in PEM; every namespace gets it. CAChanged returns a channel that is closed when that
	// may have changed; get it before. Nil: no namespace gets any.
	CA        func() []byte
	CAChanged func() <-chan struct{}
	// EvictionGrace is how long a pod without tolerations of its own stays on a Node whose machine is gone, and
	// AgentGrace how long pods stay on one whose machine answers while its peer does not.
	EvictionGrace, AgentGrace time.Duration
	// Usage asks the peer of a node what its pods use, which takes about half a second. Nil: nobody can be asked.
	Usage func(ctx context.Context, node string) (*api.Usage, error)
	// Without names controllers that do not run.
	Without []string
}

// Set is every controller.
type Set struct {
	cfg    Config
	loops  []loop
	ledger *quota.Ledger
}

// Ledger is what charges the writes of this term for what they take of their namespaces' quotas.
func (s *Set) Ledger() *quota.Ledger { return s.ledger }

// loop is the one shape of a controller.
type loop struct {
	name string
	run  func(context.Context, Config) error
	drop func() // instead of run: what the caches tell it goes nowhere
	// follow, when set, adds keys for changes that no cache sees, until ctx ends.
	follow func(context.Context) error
}

// newLoop makes a loop of what is done with one key; workers may be zero for one.
func newLoop[K comparable](name string, queue client.QueueOf[K], workers int, reconcile func(context.Context, K) (time.Duration, error)) loop {
	return loop{
		name: name, drop: queue.ShutDown,
		run: func(ctx context.Context, c Config) error {
			if err := c.Caches.WaitSynced(ctx); err != nil {
				queue.ShutDown()
				return err
			}
			return client.RunLoop(ctx, client.LoopConfig[K]{Name: name, Queue: queue, Workers: workers, Reconcile: reconcile, Log: c.Log, Metrics: c.Metrics})
		},
	}
}

// New registers the controllers with the caches. The Set must be Run.
func New(c Config) *Set {
	if c.Now == nil {
		c.Now = time.Now
	}
	quotas, ledger := newQuotas(c) // first: who waits for room finds it counted
	loops := []loop{
		quotas,
		newReplication(c, replicationControllers(c)),
		newReplication(c, replicaSets(c)),
		newRolling(c),
		newDeployments(c),
		newDaemons(c),
		newStatefulSets(c),
		newJobs(c),
		newJobOrphans(c),
		newCronJobs(c),
		newBudgets(c),
		newAutoscalers(c),
		newEndpoints(c),
		newPeers(c),
		newNodeLifecycle(c),
		newTaintEvictions(c),
		newVanished(c),
		newGarbage(c),
		newDefinitions(c),
		newRoles(c),
		newNamespaces(c),
		newServiceAccounts(c),
		newRootCAs(c),
		newClaims(c),
		newVolumes(c),
		newBinder(c),
		newAttachments(c),
		newReclaimer(c),
		newEphemerals(c),
		newEvents(c),
	}
	loops = slices.DeleteFunc(loops, func(l loop) bool {
		without := slices.Contains(c.Without, l.name)
		if without {
			l.drop()
		}
		return without
	})
	return &Set{cfg: c, loops: loops, ledger: ledger}
}

// Run works until ctx ends. The caches must be run beside it.
func (s *Set) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := s.cfg.Caches.Objects.WaitSettled(ctx); err != nil {
			return err
		}
		s.ledger.Ready(ctx)
		return nil
	})
	for _, l := range s.loops {
		g.Go(func() error { return l.run(ctx, s.cfg) })
		if l.follow != nil {
			g.Go(func() error { return l.follow(ctx) })
		}
	}
	return g.Wait()
}

// maxParallel is how many writes one reconcile has in flight: enough to fill a batch of the log.
const maxParallel = 32

// each calls f for every item, up to maxParallel at once, and returns the first error after all have ended.
func each[T any](ctx context.Context, items []T, f func(context.Context, T) error) error {
	var g errgroup.Group
	g.SetLimit(maxParallel)
	for _, item := range items {
		g.Go(func() error { return f(ctx, item) })
	}
	return g.Wait()
}

// written collects the newest revision of what was written. Safe for concurrent use.
type written struct {
	mu  sync.Mutex
	rev uint64
}

func (w *written) note(rev string) {
	n, err := strconv.ParseUint(rev, 10, 64)
	if err != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rev = max(w.rev, n)
}

// shows is a cache that can be waited for.
type shows interface {
	WaitFor(ctx context.Context, rev string) error
}

// shown blocks until c shows everything noted.
func (w *written) shown(ctx context.Context, c shows) error {
	w.mu.Lock()
	rev := w.rev
	w.mu.Unlock()
	return c.WaitFor(ctx, strconv.FormatUint(rev, 10))
}
