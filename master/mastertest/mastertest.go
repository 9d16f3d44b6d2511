// Package mastertest is a registry over a real store with nothing around it: what tests of the Master's parts use in
// place of a cluster. For tests only.
package mastertest

import (
	"context"
	"net/netip"
	"sync"
	"testing"

	"shoal/consensus"
	"shoal/consensus/store"
	"shoal/master/registry"
)

// Ranges that Services and pods get their addresses from.
var (
	ServiceCIDR = netip.MustParsePrefix("10.43.0.0/16")
	PodCIDR     = netip.MustParsePrefix("10.64.0.0/10") // room for thousands of Nodes
)

// Registry is a registry of its own, running until the test ends.
type Registry struct {
	*registry.Registry
	log *log
}

// New starts an empty registry.
func New(t testing.TB) *Registry {
	t.Helper()
	l := &log{store: store.New()}
	r := &Registry{log: l, Registry: registry.New(registry.Config{
		Log: l, ServiceCIDR: ServiceCIDR, PodCIDR: PodCIDR,
		Window: 64, // small, so that tests get past it
	})}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("registry: %v", err)
		}
	})
	return r
}

// Compact forgets all history up to now.
func (r *Registry) Compact(t testing.TB) {
	t.Helper()
	ctx := t.Context()
	if _, err := r.log.Propose(ctx, store.Txn{Compact: r.log.store.Rev()}); err != nil {
		t.Fatal(err)
	}
}

// Rev is the store's revision.
func (r *Registry) Rev() uint64 { return uint64(r.log.store.Rev()) }

// Refuse makes every write fail from now on as on a peer that is not the Master, or lets writes through again.
func (r *Registry) Refuse(refuse bool) {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	r.log.refuse = refuse
}

// log is a log of one member that forgets what it logged.
type log struct {
	store  *store.Store
	mu     sync.Mutex
	refuse bool
}

func (l *log) Store() *store.Store { return l.store }

func (l *log) Propose(ctx context.Context, t store.Txn) (store.Result, error) {
	if err := ctx.Err(); err != nil {
		return store.Result{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refuse {
		return store.Result{}, consensus.ErrNotMaster
	}
	return l.store.Apply(1, t), nil
}

func (l *log) ReadIndex(context.Context) (store.Rev, error) { return l.store.Rev(), nil }
