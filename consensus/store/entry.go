package store

import "sync/atomic"

// entry is one version of one key. It never changes once published, except that compaction cuts prev: whoever follows
// prev must afterwards check that the floor has not passed the revision it read at.
type entry struct {
	key     Key
	value   []byte
	create  Rev
	mod     Rev
	deleted bool
	last    bool // the last change of its Txn
	prev    atomic.Pointer[entry]
}

func (e *entry) kv() KV { return KV{Key: e.key, Value: e.value, Create: e.create, Mod: e.mod} }

// at returns the version that was current at rev, or nil when the key did not exist then.
func (e *entry) at(rev Rev) *entry {
	for e != nil && e.mod > rev {
		e = e.prev.Load()
	}
	if e == nil || e.deleted {
		return nil
	}
	return e
}

func (e *entry) event() Event {
	ev := Event{Rev: e.mod, Key: e.key, Value: e.value, Create: e.create, Deleted: e.deleted}
	if p := e.prev.Load(); p != nil && !p.deleted {
		ev.Prev, ev.PrevMod = p.value, p.mod
	}
	return ev
}

// item is what the index holds: the newest version of a key, which may be a deletion until it is compacted.
type item struct {
	key  Key
	head *entry
}

func less(a, b item) bool { return a.key < b.key }

// history is an immutable picture of the log of events: entries[i] made revision floor+1+i. A new one is published by
// each Txn, so watchers read it without a lock.
type history struct {
	entries []*entry
	floor   Rev
	rewinds uint64 // how often a restore took the revision back
}

func (h *history) rev() Rev { return h.floor + Rev(len(h.entries)) }

// after returns the entries newer than rev, which is not below the floor.
func (h *history) after(rev Rev) []*entry {
	if n := rev - h.floor; n < Rev(len(h.entries)) {
		return h.entries[n:]
	}
	return nil
}
