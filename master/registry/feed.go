package registry

import (
	"slices"
	"sort"
	"sync"

	"github.com/google/btree"
	"k8s.io/apimachinery/pkg/watch"

	"shoal/consensus/store"
	"shoal/internal/api"
	"shoal/internal/client"
)

// feed is what this peer knows of one kind: the objects as they are at its revision, indexed, and the latest changes.
// Readers share its entries. Only pump.go writes to it.
type feed struct {
	kind   *api.Kind
	window window

	mu      sync.RWMutex
	rev     store.Rev // of the newest change applied
	epoch   int       // grows when the feed starts over, which ends its watches
	ended   bool      // another one took its place: nobody may read from it
	tree    *btree.BTreeG[*Entry]
	byNode  map[string]map[client.Key]*Entry // pods only
	history history
	places  map[place]*history // parts of the history that somebody watches
}

// place is a part of a feed that can be watched without being woken by the rest.
type place struct{ namespace, node string }

// change is one step of a feed. For a deletion now is the last state, at the deletion's revision.
type change struct {
	rev    store.Rev
	typ    watch.EventType // Added, Modified or Deleted
	now    *Entry
	before *Entry // nil for Added
}

// window is how much of its history a feed keeps decoded: both limits hold, but for the half that a cut waits for. Kinds
// have objects from a hundred bytes to a hundred kilobytes.
type window struct{ changes, bytes int }

// history is the newest changes, in revision order, and who waits for the next.
type history struct {
	after   store.Rev // it holds every change with a larger revision
	changes []change
	bytes   int           // what their objects take in the store
	wake    chan struct{} // closed and replaced by a change
	users   int           // of a place
}

func newFeed(k *api.Kind, w window) *feed {
	f := &feed{kind: k, window: w}
	f.resetLocked(0)
	return f
}

func (f *feed) resetLocked(rev store.Rev) {
	f.rev = rev
	f.tree = btree.NewG(32, func(a, b *Entry) bool { return compareKeys(a.Key, b.Key) < 0 })
	f.byNode = map[string]map[client.Key]*Entry{}
	if f.history.wake != nil {
		close(f.history.wake)
	}
	f.history = history{after: rev, wake: make(chan struct{})}
	for _, h := range f.places {
		close(h.wake)
	}
	f.places = map[place]*history{}
}

// reset starts the feed over with what is stored at rev. Watches that are open end as expired.
func (f *feed) reset(rev store.Rev, entries []*Entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.epoch++
	f.resetLocked(rev)
	for _, e := range entries {
		f.tree.ReplaceOrInsert(e)
		f.indexLocked(e)
	}
}

// end ends the feed and its watches: its kind is served no more, or by another feed.
func (f *feed) end(rev store.Rev) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
	f.epoch++
	f.resetLocked(rev)
}

// locked reports whether the feed has an object that this peer has no key to.
func (f *feed) locked() (any bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	f.tree.Ascend(func(e *Entry) bool {
		any = e.locked
		return !any
	})
	return any
}

func (f *feed) indexLocked(e *Entry) {
	if e.node == "" {
		return
	}
	on := f.byNode[e.node]
	if on == nil {
		on = map[client.Key]*Entry{}
		f.byNode[e.node] = on
	}
	on[e.Key] = e
}

func (f *feed) unindexLocked(e *Entry) {
	on := f.byNode[e.node]
	delete(on, e.Key)
	if len(on) == 0 {
		delete(f.byNode, e.node)
	}
}

// step is one decoded event of the store; now is nil for a deletion.
type step struct {
	rev store.Rev
	key client.Key
	now *Entry
}

// advance applies steps, which are in revision order and complete, and wakes those who watch what changed.
func (f *feed) advance(steps []step) {
	f.mu.Lock()
	defer f.mu.Unlock()
	woken := map[*history]bool{}
	for _, s := range steps {
		if s.rev <= f.rev {
			continue
		}
		f.rev = s.rev
		c, ok := f.applyLocked(s)
		if !ok {
			continue
		}
		f.recordLocked(&f.history, c, woken)
		for _, p := range c.places() {
			if h := f.places[p]; h != nil {
				f.recordLocked(h, c, woken)
			}
		}
	}
	for h := range woken {
		close(h.wake)
		h.wake = make(chan struct{})
	}
}

func (f *feed) applyLocked(s step) (change, bool) {
	before, _ := f.tree.Get(&Entry{Key: s.key})
	if before != nil {
		f.unindexLocked(before)
	}
	c := change{rev: s.rev, now: s.now, before: before}
	switch {
	case s.now != nil:
		f.tree.ReplaceOrInsert(s.now)
		f.indexLocked(s.now)
		c.typ = watch.Modified
		if before == nil {
			c.typ = watch.Added
		}
	case before != nil:
		f.tree.Delete(before)
		c.typ, c.now = watch.Deleted, before.at(f.kind, s.rev)
	default:
		return change{}, false
	}
	return c, true
}

// places returns which parts of the feed c touches.
func (c change) places() []place {
	ns := c.now.Key.Namespace
	out := make([]place, 0, 5)
	if ns != "" {
		out = append(out, place{namespace: ns})
	}
	node := c.now.node
	if node != "" {
		out = append(out, place{node: node}, place{ns, node})
	}
	if c.before != nil && c.before.node != "" && c.before.node != node {
		out = append(out, place{node: c.before.node}, place{ns, c.before.node})
	}
	return out
}

func (f *feed) recordLocked(h *history, c change, woken map[*history]bool) {
	h.changes = append(h.changes, c)
	h.bytes += c.now.size
	// Readers hold sub-slices: cutting makes a new array, so it is done in large steps.
	if len(h.changes) > f.window.changes*3/2 || h.bytes > f.window.bytes*3/2 {
		h.cut(f.window)
	}
	woken[h] = true
}

// cut forgets the oldest changes until w holds. The newest one stays, however large it is.
func (h *history) cut(w window) {
	n := 0
	for last := len(h.changes) - 1; n < last && (len(h.changes)-n > w.changes || h.bytes > w.bytes); n++ {
		h.bytes -= h.changes[n].now.size
	}
	if n > 0 {
		h.after = h.changes[n-1].rev
		h.changes = slices.Clone(h.changes[n:])
	}
}

// join returns the history of a place, made from the whole feed's when nobody watched it before.
func (f *feed) joinLocked(p place) *history {
	if p == (place{}) {
		return &f.history
	}
	h := f.places[p]
	if h == nil {
		h = &history{after: f.history.after, wake: make(chan struct{})}
		for _, c := range f.history.changes {
			if slices.Contains(c.places(), p) {
				h.changes = append(h.changes, c)
				h.bytes += c.now.size
			}
		}
		f.places[p] = h
	}
	h.users++
	return h
}

// leave undoes one join.
func (f *feed) leave(p place, h *history) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p == (place{}) {
		return
	}
	if h.users--; h.users == 0 && f.places[p] == h {
		delete(f.places, p)
	}
}

// since returns the changes after rev, or false when they are no longer all here.
func (h *history) since(rev store.Rev) ([]change, bool) {
	if rev < h.after {
		return nil, false
	}
	i := sort.Search(len(h.changes), func(i int) bool { return h.changes[i].rev > rev })
	return h.changes[i:len(h.changes):len(h.changes)], true
}

// get returns one object as it is now, or nil, which says nothing once the feed has ended.
func (f *feed) get(key client.Key) (e *Entry, alive bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	e, _ = f.tree.Get(&Entry{Key: key})
	return e, !f.ended
}

// snapshotLocked returns the entries of a place in key order.
func (f *feed) snapshotLocked(p place) []*Entry {
	var out []*Entry
	switch {
	case p.node != "":
		for _, e := range f.byNode[p.node] {
			if p.namespace == "" || e.Key.Namespace == p.namespace {
				out = append(out, e)
			}
		}
		slices.SortFunc(out, func(a, b *Entry) int { return compareKeys(a.Key, b.Key) })
	case p.namespace != "" && f.kind.Namespaced:
		f.tree.AscendGreaterOrEqual(&Entry{Key: client.Key{Namespace: p.namespace}}, func(e *Entry) bool {
			if e.Key.Namespace != p.namespace {
				return false
			}
			out = append(out, e)
			return true
		})
	default:
		out = make([]*Entry, 0, f.tree.Len())
		f.tree.Ascend(func(e *Entry) bool {
			out = append(out, e)
			return true
		})
	}
	return out
}
