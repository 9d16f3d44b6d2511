package consensus

import (
	"context"
	"sync"

	"shoal/consensus/store"
)

// rounds shares one question among all who ask it while the one before is being answered. A caller is never given the
// answer of a round that began before it came: that answer may be older than what the caller must see.
type rounds struct {
	ask  func(context.Context) (store.Rev, error)
	wake chan struct{} // cap 1

	mu   sync.Mutex
	next *round
}

type round struct {
	done chan struct{}
	rev  store.Rev
	err  error
}

func newRounds(ask func(context.Context) (store.Rev, error)) *rounds {
	return &rounds{ask: ask, wake: make(chan struct{}, 1)}
}

// join returns the answer of the next round to begin.
func (rs *rounds) join(ctx context.Context) (store.Rev, error) {
	rs.mu.Lock()
	r := rs.next
	if r == nil {
		r = &round{done: make(chan struct{})}
		rs.next = r
	}
	rs.mu.Unlock()
	select {
	case rs.wake <- struct{}{}:
	default:
	}
	select {
	case <-r.done:
		return r.rev, r.err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// run holds one round after the other while anybody asks, until ctx ends. A round that is interrupted by change, which
// is called before each, ends with an error.
func (rs *rounds) run(ctx context.Context, change func() <-chan struct{}) error {
	for {
		select {
		case <-rs.wake:
		case <-ctx.Done():
			return nil
		}
		changed := change()
		rs.mu.Lock()
		r := rs.next
		rs.next = nil
		rs.mu.Unlock()
		if r != nil {
			rs.hold(ctx, r, changed)
		}
	}
}

func (rs *rounds) hold(ctx context.Context, r *round, changed <-chan struct{}) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		r.rev, r.err = rs.ask(ctx)
	}()
	select {
	case <-answered:
	case <-changed:
		cancel()
		<-answered
	}
	close(r.done)
}
