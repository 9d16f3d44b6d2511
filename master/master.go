// Package master is what the cluster's one Master does besides agreeing on writes: it makes the objects a cluster
// cannot be without, then runs the scheduler and the controllers. Package internal/peer calls Lead for each term that
// this peer is elected for. Its invariant: everything runs under the term's context and nothing outlives it.
package master

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/master/controller"
	"shoal/master/controller/quota"
	"shoal/master/scheduler"
)

// Liveness tells what gossip believes of a Node's machine. When it also has a method Since(node string) time.Time,
// deadlines count from that.
type Liveness = controller.Liveness

// Config is complete when passed to New.
type Config struct {
	Client      client.Interface // the registry of this peer
	Liveness    Liveness
	PodCIDR     netip.Prefix
	ServiceCIDR netip.Prefix
	Domain      string
	// CA returns whom the API's certificates are signed by, in PEM, which every namespace gets. CAChanged returns a channel that is closed when
	// that may have changed. Nil: no namespace gets any.
	CA        func() []byte
	CAChanged func() <-chan struct{}
	// EvictionGrace is how long pods without a toleration of their own stay on a Node whose machine is gone, default 5 s.
	EvictionGrace time.Duration
	// AgentGrace is how long pods stay on a Node whose machine answers but whose peer does not, default 5 min.
	AgentGrace time.Duration
	// Usage asks the peer of a node what its machine and pods use, which takes about half a second. Nil: nobody can be asked.
	Usage func(ctx context.Context, node string) (*api.Usage, error)
	// Rebalance has running pods moved to machines that have come back.
	Rebalance bool
	// Without names controllers that do not run, because somebody else does their work.
	Without []string
	Clock   func() time.Time // time.Now when nil
	Metrics *client.LoopMetrics
	Log     *slog.Logger
	// Detector, when set, watches the objects in the caches for changes; for tests.
	Detector *client.MutationDetector
}

// Master leads terms, one after the other.
type Master struct {
	cfg Config

	mu     sync.Mutex
	ledger *quota.Ledger // of the term, nil when this peer does not lead
	news   chan struct{} // closed and replaced when that changes
}

// New returns a Master that does nothing until Lead.
func New(c Config) *Master {
	if c.EvictionGrace == 0 {
		c.EvictionGrace = 5 * time.Second
	}
	if c.AgentGrace == 0 {
		c.AgentGrace = 5 * time.Minute
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Master{cfg: c, news: make(chan struct{})}
}

// Lead does the Master's work of one term until ctx, the term's, ends; then it returns nil, after everything it
// started has ended. An error means that this peer cannot lead and should hand the term over. The peer's store must
// have caught up with the term's beginning.
func (m *Master) Lead(ctx context.Context, term uint64) error {
	log := m.cfg.Log.With("component", "master", "term", term)
	if err := m.bootstrap(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("bootstrap: %w", err)
	}
	caches := controller.NewCaches(m.cfg.Client, log, m.cfg.Detector)
	events := client.NewRecorder(client.RecorderConfig{Client: m.cfg.Client, Component: "shoal", Now: m.cfg.Clock, Log: log})
	controllers := controller.New(controller.Config{
		Client: m.cfg.Client, Caches: caches, Events: events, Liveness: m.cfg.Liveness, Now: m.cfg.Clock, Log: log,
		EvictionGrace: m.cfg.EvictionGrace, AgentGrace: m.cfg.AgentGrace, CA: m.cfg.CA, CAChanged: m.cfg.CAChanged, Usage: m.cfg.Usage, Without: m.cfg.Without, Metrics: m.cfg.Metrics,
	})
	pods := scheduler.New(scheduler.Config{
		Client: m.cfg.Client, Pods: caches.Pods, Nodes: caches.Nodes, Services: caches.Services,
		Namespaces: caches.Namespaces, Budgets: caches.Budgets, Claims: caches.Claims, Volumes: caches.Volumes, Classes: caches.Classes,
		UsersOf: caches.UsersOf, Events: events,
		Now: m.cfg.Clock, Rand: rand.New(rand.NewPCG(term, rand.Uint64())), Log: log, Rebalance: m.cfg.Rebalance,
	})
	m.account(controllers.Ledger())
	defer m.account(nil)
	g, gctx := errgroup.WithContext(ctx)
	for _, run := range []func(context.Context) error{caches.Run, controllers.Run, pods.Run, events.Run} {
		g.Go(func() error { return run(gctx) })
	}
	err := g.Wait()
	if ctx.Err() != nil || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
