package peer

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"shoal/consensus/store"
)

// follow calls do at once, after each change of a record below prefix or of what one of the channels tells that wakes return, and after the time that
// do returned if it is not zero, until ctx ends. When do fails, it is called again after a second, too.
func (p *Peer) follow(ctx context.Context, prefix store.Key, do func(context.Context) (time.Duration, error), wakes ...func() <-chan struct{}) error {
	g, ctx := errgroup.WithContext(ctx)
	wake := make(chan struct{}, 1)
	g.Go(func() error { return tellWrites(ctx, p.raft.Store(), prefix, wake) })
	for _, changed := range wakes {
		g.Go(func() error { return tellChanges(ctx, changed, wake) })
	}
	g.Go(func() error {
		for say := (reporter{log: p.log}); ; {
			after, err := do(ctx)
			if err != nil && ctx.Err() == nil {
				say.warn("what the cluster's records ask cannot be done yet, will retry", "records", string(prefix), "err", err)
				after = time.Second
			}
			var again <-chan time.Time
			if after > 0 {
				again = time.After(after)
			}
			select {
			case <-wake:
			case <-again:
			case <-ctx.Done():
				return nil
			}
		}
	})
	return g.Wait()
}

// tellChanges wakes the owner of a channel of capacity one whenever changed does, until ctx ends. It has the next channel before it tells of what the
// one before told.
func tellChanges(ctx context.Context, changed func() <-chan struct{}, wake chan<- struct{}) error {
	for ch := changed(); ; {
		select {
		case <-ch:
		case <-ctx.Done():
			return nil
		}
		ch = changed()
		signal(wake)
	}
}

// tellWrites wakes the owner of a channel of capacity one at once, and after each change below prefix, until ctx ends.
func tellWrites(ctx context.Context, s *store.Store, prefix store.Key, wake chan<- struct{}) error {
	w := s.Watch(prefix, s.Rev())
	defer func() { w.Close() }()
	for {
		signal(wake)
		_, err := w.Next(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, store.ErrCompacted): // also when the replica was replaced whole
			w.Close()
			w = s.Watch(prefix, s.Rev())
		case err != nil:
			return err
		}
	}
}

// signal wakes the owner of a channel of capacity one.
func signal(wake chan<- struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}
