// Package registrytest gives tests a running registry over a real store and a log of one peer in the same process. The
// log behaves like consensus: it applies in order, and it can lose its Master, its quorum, or an answer.
package registrytest

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

// Log is a registry.Log without a network. The zero value is not usable; use NewLog.
type Log struct {
	st *store.Store

	mu       sync.Mutex
	noQuorum chan struct{} // closed when quorum is back; nil while there is one
	notHere  bool
	refused  chan struct{} // closed by the first proposal that was refused
	lose     int
	txns     []store.Txn
	more     chan struct{} // closed and replaced by a Txn
}

// NewLog returns a log that accepts proposals at once.
func NewLog() *Log {
	return &Log{st: store.New(), more: make(chan struct{}), refused: make(chan struct{})}
}

// Store implements registry.Log.
func (l *Log) Store() *store.Store { return l.st }

// Ready implements registry.Log.
func (l *Log) Ready() <-chan struct{} { return ready }

var ready = func() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// Propose implements registry.Log.
func (l *Log) Propose(ctx context.Context, t store.Txn) (store.Result, error) {
	if err := l.quorum(ctx); err != nil {
		return store.Result{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.notHere {
		select {
		case <-l.refused:
		default:
			close(l.refused)
		}
		return store.Result{}, consensus.ErrNotMaster
	}
	res := l.st.Apply(0, t)
	l.txns = append(l.txns, t)
	close(l.more)
	l.more = make(chan struct{})
	if l.lose > 0 {
		l.lose--
		return store.Result{}, consensus.ErrUnknownOutcome
	}
	return res, nil
}

// ReadIndex implements registry.Log.
func (l *Log) ReadIndex(ctx context.Context) (store.Rev, error) {
	if err := l.quorum(ctx); err != nil {
		return 0, err
	}
	return l.st.Rev(), nil
}

// since returns the transactions after the first n, and a channel that is closed by the next one.
func (l *Log) since(n int) (<-chan struct{}, []store.Txn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.more, l.txns[n:len(l.txns):len(l.txns)]
}

// Compact forgets all history up to now.
func (l *Log) Compact() { l.st.Apply(0, store.Txn{Compact: l.st.Rev()}) }

func (l *Log) quorum(ctx context.Context) error {
	l.mu.Lock()
	back := l.noQuorum
	l.mu.Unlock()
	if back == nil {
		return context.Cause(ctx) // nil unless ctx has ended
	}
	select {
	case <-back:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// SetMaster says whether proposals are accepted here.
func (l *Log) SetMaster(here bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.notHere = !here
}

// WaitRefused blocks until a proposal has been refused because of SetMaster, or ctx ends.
func (l *Log) WaitRefused(ctx context.Context) {
	select {
	case <-l.refused:
	case <-ctx.Done():
	}
}

// SetQuorum says whether proposals and read indexes are answered; without quorum they block.
func (l *Log) SetQuorum(ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case ok && l.noQuorum != nil:
		close(l.noQuorum)
		l.noQuorum = nil
	case !ok && l.noQuorum == nil:
		l.noQuorum = make(chan struct{})
	}
}

// LoseAnswers makes the next n proposals happen although their callers are told that the outcome is unknown.
func (l *Log) LoseAnswers(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lose = n
}

// Config returns the configuration New uses, over l.
func Config(l registry.Log) registry.Config {
	return registry.Config{
		Log:         l,
		ServiceCIDR: ServiceCIDR,
		PodCIDR:     PodCIDR,
		Window:      64, // small, so that tests get past it
	}
}

// New returns a running registry over a new log. It stops with the test.
func New(t testing.TB) (*registry.Registry, *Log) {
	t.Helper()
	l := NewLog()
	return Start(t, Config(l)), l
}

// Start runs a registry until the test ends.
func Start(t testing.TB, c registry.Config) *registry.Registry {
	t.Helper()
	r := registry.New(c)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("registry ended: %v", err)
		}
	})
	return r
}
