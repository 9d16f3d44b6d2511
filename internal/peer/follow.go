package peer

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"shoal/consensus/store"
)

// follow calls do at once and after each change of a record below prefix, or of what the channel that also returns tells, until ctx
// ends. When do fails, it is called again after a second, too.
func (p *Peer) follow(ctx context.Context, prefix store.Key, also func() <-chan struct{}, do func(context.Context) error) error {
	g, ctx := errgroup.WithContext(ctx)
	wrote := make(chan struct{}, 1)
	g.Go(func() error { return tellWrites(ctx, p.raft.Store(), prefix, wrote) })
	g.Go(func() error {
		for say := (reporter{log: p.log}); ; {
			changed := also()
			var again <-chan time.Time
			if err := do(ctx); err != nil && ctx.Err() == nil {
				say.warn("what the cluster's records ask cannot be done yet, will retry", "records", string(prefix), "err", err)
				again = time.After(time.Second)
			}
			select {
			case <-wrote:
			case <-changed:
			case <-again:
			case <-ctx.Done():
				return nil
			}
		}
	})
	return g.Wait()
}

// tellWrites wakes the owner of a channel of capacity one at once, and after each change below prefix, until ctx ends.
func tellWrites(ctx context.Context, s *store.Store, prefix store.Key, wake chan<- struct{}) error {
	w := s.Watch(prefix, s.Rev())
	defer func() { w.Close() }()
	for {
		select {
		case wake <- struct{}{}:
		default:
		}
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
