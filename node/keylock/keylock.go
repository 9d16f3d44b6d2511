// Package keylock lets one caller a key work at a time.
package keylock

import (
	"context"
	"sync"
)

// Locks are ready to use. Safe for concurrent use; not to be copied.
type Locks struct {
	mu   sync.Mutex
	busy map[string]chan struct{}
}

// Lock waits for whoever works on key, or until ctx ends.
func (l *Locks) Lock(ctx context.Context, key string) (unlock func(), err error) {
	for {
		l.mu.Lock()
		busy := l.busy[key]
		if busy == nil {
			if l.busy == nil {
				l.busy = map[string]chan struct{}{}
			}
			done := make(chan struct{})
			l.busy[key] = done
			l.mu.Unlock()
			return func() {
				l.mu.Lock()
				delete(l.busy, key)
				l.mu.Unlock()
				close(done)
			}, nil
		}
		l.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
