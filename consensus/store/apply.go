package store

import (
	"bytes"
	"slices"
)

// Apply does one Txn that was committed in a log entry of the given term: all of it, or nothing when a compare does not
// hold or its term is another. A put of the value a key already has, and a deletion of an absent key, change nothing and
// use no revision. It keeps t's values and slices of keys: the caller must not change them afterwards.
func (s *Store) Apply(entryTerm uint64, t Txn) Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.hist.Load()
	if t.Term != 0 && t.Term != entryTerm {
		return Result{Rev: h.rev(), Failed: -1, Stale: true}
	}
	for i, c := range t.Compares {
		if s.modLocked(c.Key) != c.Mod {
			return Result{Rev: h.rev(), Failed: i}
		}
	}
	res := Result{OK: true, Failed: -1}
	if len(t.Ops) > 0 {
		res.Revs = make([]Rev, len(t.Ops))
	}
	entries, rev := h.entries, h.rev()
	for i, op := range t.Ops {
		e, mod := s.doLocked(op, rev+1)
		res.Revs[i] = mod
		if e != nil {
			rev++
			entries = append(entries, e)
		}
	}
	if len(entries) > len(h.entries) {
		fresh := entries[len(h.entries):]
		fresh[len(fresh)-1].last = true
		s.view.Store(nil)
		h = &history{entries: entries, floor: h.floor, rewinds: h.rewinds}
		s.hist.Store(h)
		s.reached.Advance(uint64(rev))
		s.watches.changed(fresh)
	}
	if t.Compact > 0 {
		s.compactLocked(min(t.Compact, rev))
	}
	res.Rev = rev
	return res
}

// modLocked returns the revision of key's value, zero when it does not exist. Caller holds mu.
func (s *Store) modLocked(key Key) Rev {
	it, ok := s.tree.Get(item{key: key})
	if !ok || it.head.deleted {
		return 0
	}
	return it.head.mod
}

// doLocked does op at rev. It returns the new version, or nil when nothing changed, and what Result.Revs says about it.
// Caller holds mu.
func (s *Store) doLocked(op Op, rev Rev) (*entry, Rev) {
	it, found := s.tree.Get(item{key: op.Key})
	exists := found && !it.head.deleted
	e := &entry{key: op.Key, mod: rev, create: rev, deleted: op.Delete}
	switch {
	case op.Delete && !exists:
		return nil, 0
	case op.Delete:
		e.create = it.head.create
		s.live--
	case exists && bytes.Equal(it.head.value, op.Value):
		return nil, it.head.mod
	case exists:
		e.create = it.head.create
	default:
		s.live++
	}
	if !op.Delete {
		e.value = op.Value
		if e.value == nil {
			e.value = []byte{}
		}
	}
	if found {
		e.key = it.key // one copy of the text for all versions
		e.prev.Store(it.head)
	}
	s.tree.ReplaceOrInsert(item{key: e.key, head: e})
	return e, rev
}

// compactLocked forgets the history up to and including rev. The order matters to readers without the lock: first the
// watches learn what they lose, then the floor rises, and only then are old versions cut. Caller holds mu.
func (s *Store) compactLocked(rev Rev) {
	h := s.hist.Load()
	if rev <= h.floor {
		return
	}
	n := int(rev - h.floor)
	gone := h.entries[:n]
	s.watches.losing(gone)
	s.hist.Store(&history{entries: slices.Clone(h.entries[n:]), floor: rev, rewinds: h.rewinds})
	for _, e := range gone {
		e.prev.Store(nil)
		if !e.deleted {
			continue
		}
		if it, ok := s.tree.Get(item{key: e.key}); ok && it.head == e {
			s.tree.Delete(it)
			s.view.Store(nil)
		}
	}
}
