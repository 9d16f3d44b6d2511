package store

import (
	"context"
	"slices"
	"strings"
	"sync"
)

// batch is how many events a Next returns at most, give or take the rest of a Txn.
const batch = 1024

// Watcher pulls the changes of the keys that begin with a prefix, in order, each exactly once. A slow one is not waited
// for and loses nothing: it reads on from the log until compaction overtakes it. Use from one goroutine at a time,
// except Close.
type Watcher struct {
	store   *Store
	group   *group
	pos     Rev // everything up to here was returned, or did not match
	rewinds uint64
	closed  chan struct{}
	once    sync.Once
	expired bool
}

// Watch returns a Watcher for the changes after a revision. One that is not reached yet is waited for. The caller must
// Close it.
func (s *Store) Watch(prefix Key, after Rev) *Watcher {
	w := &Watcher{store: s, group: s.watches.join(prefix), pos: after, closed: make(chan struct{})}
	// Only now: a compaction after this look at the floor is known to the group.
	h := s.hist.Load()
	w.rewinds = h.rewinds
	w.expired = after < h.floor
	return w
}

// Next returns the next changes, at least one, waiting for them as long as ctx allows. All changes that one Txn made
// under the prefix come together. After ErrCompacted, which it then returns always, the reader must list again. Other
// errors are ctx's and ErrClosed.
func (w *Watcher) Next(ctx context.Context) ([]Event, error) {
	for {
		wake := w.store.watches.arm(w.group)
		events, err := w.collect()
		if err != nil || len(events) > 0 {
			return events, err
		}
		select {
		case <-wake:
		case <-w.closed:
			return nil, ErrClosed
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Close ends the watch and a Next that waits. It may be called more than once.
func (w *Watcher) Close() {
	w.once.Do(func() {
		close(w.closed)
		w.store.watches.leave(w.group)
	})
}

// collect returns the matching events since pos without waiting.
func (w *Watcher) collect() ([]Event, error) {
	for {
		h := w.store.hist.Load()
		if err := w.catchUp(h); err != nil {
			return nil, err
		}
		events, pos := w.read(h)
		// A compaction during read may have cut what an event says about the value before.
		if len(events) > 0 && w.store.hist.Load().floor > w.pos {
			continue
		}
		w.pos = pos
		return events, nil
	}
}

// catchUp moves over history that was compacted without a change under the prefix.
func (w *Watcher) catchUp(h *history) error {
	select {
	case <-w.closed:
		return ErrClosed
	default:
	}
	if h.rewinds != w.rewinds {
		w.expired = true
	}
	if !w.expired && w.pos < h.floor {
		w.expired = w.store.watches.lost(w.group) > w.pos
		if !w.expired {
			w.pos = h.floor
		}
	}
	if w.expired {
		return ErrCompacted
	}
	return nil
}

func (w *Watcher) read(h *history) (events []Event, pos Rev) {
	pos = w.pos
	prefix := string(w.group.prefix)
	for _, e := range h.after(w.pos) {
		if strings.HasPrefix(string(e.key), prefix) {
			events = append(events, e.event())
		}
		pos = e.mod
		if e.last && len(events) >= batch {
			break
		}
	}
	return events, pos
}

// watches knows which prefixes are watched, so that a change wakes only those who wait for it.
type watches struct {
	mu      sync.Mutex
	groups  map[Key]*group
	lengths []int // distinct lengths of the groups' prefixes
}

// group is all watchers of one prefix. Its fields but prefix are guarded by watches.mu.
type group struct {
	prefix Key
	refs   int
	wake   chan struct{} // nil when nobody waits
	gone   Rev           // the newest change under the prefix that was compacted
}

func (ws *watches) join(prefix Key) *group {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	g := ws.groups[prefix]
	if g == nil {
		if ws.groups == nil {
			ws.groups = make(map[Key]*group)
		}
		g = &group{prefix: prefix}
		ws.groups[prefix] = g
		ws.measureLocked()
	}
	g.refs++
	return g
}

func (ws *watches) leave(g *group) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	g.refs--
	if g.refs == 0 {
		delete(ws.groups, g.prefix)
		ws.measureLocked()
	}
}

func (ws *watches) measureLocked() {
	ws.lengths = ws.lengths[:0]
	for p := range ws.groups {
		if i, found := slices.BinarySearch(ws.lengths, len(p)); !found {
			ws.lengths = slices.Insert(ws.lengths, i, len(p))
		}
	}
}

// arm returns a channel that is closed at the group's next change. Take it before reading.
func (ws *watches) arm(g *group) <-chan struct{} {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if g.wake == nil {
		g.wake = make(chan struct{})
	}
	return g.wake
}

func (ws *watches) lost(g *group) Rev {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return g.gone
}

// changed wakes the watchers of what the entries changed.
func (ws *watches) changed(entries []*entry) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, e := range entries {
		ws.eachLocked(e.key, (*group).notify)
	}
}

// losing notes what is about to be compacted.
func (ws *watches) losing(entries []*entry) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, e := range entries {
		ws.eachLocked(e.key, func(g *group) { g.gone = e.mod })
	}
}

// reset tells every watcher that the history up to rev was replaced.
func (ws *watches) reset(rev Rev) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, g := range ws.groups {
		g.gone = rev
	}
}

func (ws *watches) wakeAll() {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, g := range ws.groups {
		g.notify()
	}
}

func (g *group) notify() {
	if g.wake != nil {
		close(g.wake)
		g.wake = nil
	}
}

// eachLocked calls f for the groups whose prefix key begins with. Caller holds mu.
func (ws *watches) eachLocked(key Key, f func(*group)) {
	for _, n := range ws.lengths {
		if n > len(key) {
			return
		}
		if g := ws.groups[key[:n]]; g != nil {
			f(g)
		}
	}
}
