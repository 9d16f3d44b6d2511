package store

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/google/btree"
)

// degree of the index: nodes of up to 63 items, which keeps copied paths and cache misses about even.
const degree = 32

// Store holds the newest value of every key, and its past back to the last compaction. All methods are safe for
// concurrent use. Reads never wait for one another and wait for a writer only to take a picture after a change. Values
// handed out are shared and must not be changed.
type Store struct {
	mu   sync.Mutex // orders Apply, Restore and the taking of views; guards what follows
	tree *btree.BTreeG[item]
	live int // keys that are not deleted

	view    atomic.Pointer[view] // nil after a change, until a reader needs one
	hist    atomic.Pointer[history]
	reached Mark
	watches watches
}

// view is an immutable picture of the index.
type view struct {
	tree *btree.BTreeG[item]
	rev  Rev
	live int
}

// New returns an empty store at revision 0.
func New() *Store {
	s := &Store{tree: btree.NewG(degree, less)}
	s.hist.Store(&history{})
	return s
}

// Get returns key's value as it was at a revision; zero means newest. The bool tells whether it existed. The error is
// nil, ErrCompacted or ErrFuture.
func (s *Store) Get(key Key, at Rev) (KV, bool, error) {
	v := s.current()
	if err := s.readable(v, at); err != nil {
		return KV{}, false, err
	}
	it, ok := v.tree.Get(item{key: key})
	if !ok {
		return KV{}, false, s.unchanged(at)
	}
	e := it.at(v.rev, at)
	if err := s.unchanged(at); err != nil || e == nil {
		return KV{}, false, err
	}
	return e.kv(), true, nil
}

// List returns the keys that begin with prefix and are not before from, in order, as they were at a revision; zero
// means newest. A limit of zero or less means all. The error is nil, ErrCompacted or ErrFuture.
func (s *Store) List(prefix, from Key, at Rev, limit int) (Page, error) {
	v := s.current()
	if err := s.readable(v, at); err != nil {
		return Page{}, err
	}
	page := Page{Rev: v.rev}
	if at != 0 {
		page.Rev = at
	}
	v.tree.AscendGreaterOrEqual(item{key: max(prefix, from)}, func(it item) bool {
		if !strings.HasPrefix(string(it.key), string(prefix)) {
			return false
		}
		e := it.at(v.rev, at)
		if e == nil {
			return true
		}
		if limit > 0 && len(page.KVs) == limit {
			page.More = true
			return false
		}
		page.KVs = append(page.KVs, e.kv())
		return true
	})
	if err := s.unchanged(at); err != nil {
		return Page{}, err
	}
	return page, nil
}

// Versions returns what is still known of a key's past, the newest first: each value, and each deletion as an Event without a value.
// The last one is either what the key had at OldestRev, or its creation after that.
func (s *Store) Versions(key Key) []Event {
	it, ok := s.current().tree.Get(item{key: key})
	if !ok {
		return nil
	}
	var all []Event
	for e := it.head; e != nil; e = e.prev.Load() {
		all = append(all, e.event())
	}
	return all
}

// Rev returns the revision of the newest change.
func (s *Store) Rev() Rev { return s.hist.Load().rev() }

// OldestRev returns the oldest revision that can still be read, and after which a watch can still begin.
func (s *Store) OldestRev() Rev { return s.hist.Load().floor }

// HistoryLen returns how many changes are remembered.
func (s *Store) HistoryLen() int { return len(s.hist.Load().entries) }

// Len returns how many keys exist.
func (s *Store) Len() int { return s.current().live }

// WaitRev returns nil once the store has reached rev, or ctx's error.
func (s *Store) WaitRev(ctx context.Context, rev Rev) error { return s.reached.Wait(ctx, uint64(rev)) }

// at returns the version of a view at rev that a reader at the given revision sees, or nil.
func (it item) at(rev, at Rev) *entry {
	if at != 0 && at != rev {
		return it.head.at(at)
	}
	if it.head.deleted {
		return nil
	}
	return it.head
}

// current returns a picture of the newest state, taking it when there was a change since the last one. Writers that
// nobody reads after thus copy nothing.
func (s *Store) current() *view {
	if v := s.view.Load(); v != nil {
		return v
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.currentLocked()
}

func (s *Store) currentLocked() *view {
	if v := s.view.Load(); v != nil {
		return v
	}
	v := &view{tree: s.tree.Clone(), rev: s.hist.Load().rev(), live: s.live}
	s.view.Store(v)
	return v
}

func (s *Store) readable(v *view, at Rev) error {
	if at > v.rev {
		return ErrFuture
	}
	return s.unchanged(at)
}

// unchanged tells whether what was read at a revision is still to be trusted: a compaction in between may have cut it.
func (s *Store) unchanged(at Rev) error {
	if at != 0 && at < s.hist.Load().floor {
		return ErrCompacted
	}
	return nil
}
