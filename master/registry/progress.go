package registry

import (
	"context"
	"sync"

	"shoal/consensus/store"
	"shoal/internal/fair"
)

// progress is the revision that the feeds have reached. It only grows and can be waited for.
type progress struct {
	mark   store.Mark
	once   sync.Once
	loaded chan struct{} // closed when the feeds have been loaded for the first time
}

func (p *progress) init() { p.loaded = make(chan struct{}) }

func (p *progress) get() store.Rev { return store.Rev(p.mark.Value()) }

func (p *progress) set(rev store.Rev) {
	p.mark.Advance(uint64(rev))
	p.once.Do(func() { close(p.loaded) })
}

// wait blocks until the feeds are loaded and include rev, or ctx ends.
func (p *progress) wait(ctx context.Context, rev store.Rev) error {
	select {
	case <-p.loaded:
		if p.get() >= rev {
			return nil
		}
	default:
	}
	defer fair.Yield(ctx)()
	select {
	case <-p.loaded:
	case <-ctx.Done():
		return ctx.Err()
	}
	return p.mark.Wait(ctx, uint64(rev))
}
