package images

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
)

// fanout is how many machines fetch from one at the same time. With two, the machines that have an image triple in each round, and none sends
// more than twice what it received at once.
const fanout = 2

// rememberMost bounds how many images are remembered that nobody fetches at the moment.
const rememberMost = 256

// turns lets machines fetch the same content one after the other: one from outside, the others from those who have it, as these become more.
// One machine keeps the turns of one image; if it is gone, machines fetch from outside without it. It is safe for concurrent use.
type turns struct {
	alive func(name string) bool

	mu     sync.Mutex
	queues map[digest.Digest]*queue
	idle   []digest.Digest // nobody fetches these now, the one that has been idle for the longest first
}

// queue is who has, who fetches and who waits for one image.
type queue struct {
	have    map[string]bool
	busy    map[string]int // how many fetch from each machine, and from outside, which is ""
	waiting []*waiter
}

type waiter struct {
	peer string
	turn chan string // capacity 1: whom to fetch from, "" for outside
}

func newTurns(alive func(string) bool) *turns {
	return &turns{alive: alive, queues: map[digest.Digest]*queue{}}
}

// take waits for a machine's turn, and returns whom it fetches from: a machine, or "" for outside. The machine then calls done, once, with whether it has
// everything now. holders is asked for machines that have the image when nothing is remembered of it.
func (t *turns) take(ctx context.Context, d digest.Digest, peer string, holders func() []string) (from string, done func(ok bool), err error) {
	w := &waiter{peer, make(chan string, 1)}
	t.mu.Lock()
	q := t.queues[d]
	if q == nil {
		t.mu.Unlock()
		known := holders()
		t.mu.Lock()
		if q = t.queues[d]; q == nil {
			q = &queue{have: map[string]bool{}, busy: map[string]int{}}
			for _, name := range known {
				q.have[name] = true
			}
			t.queues[d] = q
		}
	}
	t.idle = slices.DeleteFunc(t.idle, func(other digest.Digest) bool { return other == d })
	delete(q.have, peer) // it would not ask
	q.waiting = append(q.waiting, w)
	t.serve(d, q)
	t.mu.Unlock()
	select {
	case from = <-w.turn:
	case <-ctx.Done():
		t.mu.Lock()
		defer t.mu.Unlock()
		if i := slices.Index(q.waiting, w); i >= 0 {
			q.waiting = slices.Delete(q.waiting, i, i+1)
			t.serve(d, q)
		} else {
			t.endLocked(d, q, peer, <-w.turn, false)
		}
		return "", nil, ctx.Err()
	}
	var once sync.Once
	return from, func(ok bool) {
		once.Do(func() {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.endLocked(d, q, peer, from, ok)
		})
	}, nil
}

// endLocked notes that a machine fetches no more. Caller holds mu.
func (t *turns) endLocked(d digest.Digest, q *queue, peer, from string, ok bool) {
	if q.busy[from]--; q.busy[from] == 0 {
		delete(q.busy, from)
	}
	if ok {
		q.have[peer] = true
	} else {
		delete(q.have, from)
	}
	t.serve(d, q)
}

// serve gives turns to those who wait, as far as there are any. Caller holds mu.
func (t *turns) serve(d digest.Digest, q *queue) {
	maps.DeleteFunc(q.have, func(name string, _ bool) bool { return !t.alive(name) })
	for len(q.waiting) > 0 {
		from, ok := q.next()
		if !ok {
			return
		}
		q.busy[from]++
		q.waiting[0].turn <- from
		q.waiting = q.waiting[1:]
	}
	if len(q.busy) == 0 && !slices.Contains(t.idle, d) {
		if t.idle = append(t.idle, d); len(t.idle) > rememberMost {
			delete(t.queues, t.idle[0])
			t.idle = t.idle[1:]
		}
	}
}

// next is whom the next machine fetches from, if it need not wait: the least busy one that has the image, or outside when none has it and nobody is fetching it.
func (q *queue) next() (from string, ok bool) {
	if len(q.have) == 0 {
		return "", q.busy[""] == 0
	}
	from = slices.MinFunc(slices.Sorted(maps.Keys(q.have)), func(a, b string) int { return cmp.Compare(q.busy[a], q.busy[b]) })
	return from, q.busy[from] < fanout
}
