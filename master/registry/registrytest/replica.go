package registrytest

import (
	"context"
	"sync"
	"testing"

	"shoal/consensus"
	"shoal/consensus/store"
)

// Replica is the log as a peer sees it that is not the Master: its store follows, as late as the test wants.
type Replica struct {
	of *Log
	st *store.Store

	mu     sync.Mutex
	held   bool
	change chan struct{} // closed and replaced by Hold and Release
}

// NewReplica follows l until the test ends.
func NewReplica(t testing.TB, l *Log) *Replica {
	t.Helper()
	r := &Replica{of: l, st: store.New(), change: make(chan struct{})}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var done sync.WaitGroup
	done.Go(func() { r.follow(ctx) })
	t.Cleanup(func() {
		stop()
		done.Wait()
	})
	return r
}

func (r *Replica) follow(ctx context.Context) {
	for next := 0; ; {
		more, txns := r.of.since(next)
		r.mu.Lock()
		held, change := r.held, r.change
		r.mu.Unlock()
		if !held && len(txns) > 0 {
			for _, t := range txns {
				r.st.Apply(0, t)
			}
			next += len(txns)
			continue
		}
		select {
		case <-more:
		case <-change:
		case <-ctx.Done():
			return
		}
		if held {
			select {
			case <-change:
			case <-ctx.Done():
				return
			}
		}
	}
}

// Hold keeps what is written from now on from reaching the replica until Release.
func (r *Replica) Hold() { r.set(true) }

// Release lets the replica catch up.
func (r *Replica) Release() { r.set(false) }

func (r *Replica) set(held bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held = held
	close(r.change)
	r.change = make(chan struct{})
}

// Store implements registry.Log.
func (r *Replica) Store() *store.Store { return r.st }

// Ready implements registry.Log.
func (r *Replica) Ready() <-chan struct{} { return ready }

// Propose implements registry.Log.
func (r *Replica) Propose(context.Context, store.Txn) (store.Result, error) {
	return store.Result{}, consensus.ErrNotMaster
}

// ReadIndex implements registry.Log.
func (r *Replica) ReadIndex(ctx context.Context) (store.Rev, error) { return r.of.ReadIndex(ctx) }
