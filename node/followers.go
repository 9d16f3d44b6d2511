package node

import (
	"context"
	"sync"
)

// followers runs caches of single objects, each for as long as it is wanted. Safe for concurrent use.
type followers struct {
	poke chan struct{}

	mu      sync.Mutex
	pending []follower
}

type follower struct {
	run  func(ctx context.Context) error // ends with ctx only
	over <-chan struct{}
}

func newFollowers() *followers { return &followers{poke: make(chan struct{}, 1)} }

// add has run run until over is closed. It does not block.
func (f *followers) add(run func(ctx context.Context) error, over <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pending = append(f.pending, follower{run, over})
	wake(f.poke)
}

// Run runs what is added until ctx ends.
func (f *followers) Run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		f.mu.Lock()
		pending := f.pending
		f.pending = nil
		f.mu.Unlock()
		for _, one := range pending {
			all.Go(func() {
				ctx, cancel := context.WithCancel(ctx)
				defer cancel()
				all.Go(func() {
					select {
					case <-one.over:
						cancel()
					case <-ctx.Done():
					}
				})
				_ = one.run(ctx)
			})
		}
		select {
		case <-f.poke:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
