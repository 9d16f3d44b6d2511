package api

import (
	"slices"
	"sync"
	"sync/atomic"
)

// Live is the kinds table of a running program: the built-in rows, and those that CustomResourceDefinitions make and take away.
// It is safe for concurrent use. Who needs more than one look takes the Table once and keeps it for as long as its answer.
type Live struct {
	builtin []*Kind
	mu      sync.Mutex // serialises Set
	now     atomic.Pointer[moment]
}

// moment is a table and the end of its time.
type moment struct {
	table *Table
	over  chan struct{}
}

// NewLive returns a handle that starts with t, whose rows stay for good.
func NewLive(t *Table) *Live {
	l := &Live{builtin: t.Kinds()}
	l.now.Store(&moment{t, make(chan struct{})})
	return l
}

// Table returns the table as it is now.
func (l *Live) Table() *Table { return l.now.Load().table }

// Changed returns a channel that is closed when the table is replaced next. Get it before the Table.
func (l *Live) Changed() <-chan struct{} { return l.now.Load().over }

// Next returns what would follow: a table of the built-in rows and the given ones, of the next generation.
func (l *Live) Next(custom []*Kind) *Table {
	t := NewTable(append(slices.Clip(l.builtin), custom...)...)
	t.generation = l.Table().generation + 1
	return t
}

// Set replaces the table by one that Next made, and wakes those who wait for Changed.
func (l *Live) Set(t *Table) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.now.Swap(&moment{t, make(chan struct{})})
	close(before.over)
}
