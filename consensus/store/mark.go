package store

import (
	"context"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
)

// Mark is a number that grows and can be waited for. Its zero value is ready to use. All methods are safe for concurrent
// use.
type Mark struct {
	value atomic.Uint64

	mu      sync.Mutex
	waiters []*waiter // in order of what they wait for
}

type waiter struct {
	value uint64
	done  chan struct{}
}

// Value returns the number.
func (m *Mark) Value() uint64 { return m.value.Load() }

// Advance sets the number to v and lets go everyone who waits for v or less. It may take the number back, which lets go
// nobody.
func (m *Mark) Advance(v uint64) {
	m.value.Store(v)
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for n < len(m.waiters) && m.waiters[n].value <= v {
		close(m.waiters[n].done)
		n++
	}
	m.waiters = slices.Delete(m.waiters, 0, n)
}

// Wait returns nil once the number is at least v, or ctx's error.
func (m *Mark) Wait(ctx context.Context, v uint64) error {
	if m.value.Load() >= v {
		return nil
	}
	w := m.enter(v)
	if w == nil {
		return nil
	}
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		m.leave(w)
		return ctx.Err()
	}
}

func (m *Mark) enter(v uint64) *waiter {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.value.Load() >= v {
		return nil
	}
	w := &waiter{value: v, done: make(chan struct{})}
	i := sort.Search(len(m.waiters), func(i int) bool { return m.waiters[i].value > v })
	m.waiters = slices.Insert(m.waiters, i, w)
	return w
}

func (m *Mark) leave(w *waiter) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if i := slices.Index(m.waiters, w); i >= 0 {
		m.waiters = slices.Delete(m.waiters, i, i+1)
	}
}
