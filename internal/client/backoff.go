package client

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff paces tries that fail: each wait is about twice the one before, with jitter. Not safe for concurrent use.
type Backoff struct{ first, most, next time.Duration }

// NewBackoff returns a Backoff whose waits grow from first to most.
func NewBackoff(first, most time.Duration) *Backoff {
	return &Backoff{first: first, most: most, next: first}
}

// Reset makes the next wait a short one again.
func (b *Backoff) Reset() { b.next = b.first }

// Wait blocks for the next wait and returns nil, or ctx's error when ctx ends first.
func (b *Backoff) Wait(ctx context.Context) error {
	d := b.next
	b.next = min(2*b.next, b.most)
	return sleep(ctx, d/2+rand.N(d/2+1))
}

// sleep blocks for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
