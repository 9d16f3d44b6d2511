// Package store is the cluster's memory: a multi-version map from keys to values with one growing revision, watched by
// pulling from its log of events. It is pure: no I/O, no clock, no randomness, no logging, and it knows nothing about
// what the values mean. The replicated log applies one Txn at a time to it (package consensus); the API reads and watches
// it. Its one invariant: two stores that applied the same Txns in the same order answer every revision alike.
package store

import (
	"errors"
	"strconv"
)

// Key names one stored value. Keys are ordered as byte strings.
type Key string

// Rev is a store revision: a counter that grows by one for each changed key and is the same on every peer. It is what
// the API shows as resourceVersion. Zero means "never".
type Rev uint64

// String returns r in decimal, the form a resourceVersion has on the wire.
func (r Rev) String() string { return strconv.FormatUint(uint64(r), 10) }

// KV is one key with its newest value at some revision. Value must not be changed by the caller.
type KV struct {
	Key    Key
	Value  []byte
	Create Rev // the revision that created the key
	Mod    Rev // the revision of this value
}

// Op puts Value under Key, or deletes Key.
type Op struct {
	Key    Key
	Value  []byte
	Delete bool
}

// Compare demands that Key's newest value has revision Mod. Zero demands that Key is absent.
type Compare struct {
	Key Key
	Mod Rev
}

// Txn is the one command of the log: when every compare holds, all operations are applied in order, else none.
type Txn struct {
	Term     uint64 // the proposer's term; zero is accepted in any term
	Compares []Compare
	Ops      []Op
	Compact  Rev // when not zero, forget history up to and including this revision
}

// Result says what a Txn did.
type Result struct {
	OK   bool  // every compare held
	Rev  Rev   // the store's revision after the Txn
	Revs []Rev // one per operation: the key's Mod after it, or the revision of its deletion
	// Failed holds the index of the first compare that did not hold; -1 when OK or Stale.
	Failed int
	// Stale means that the Txn's term is not the term of its log entry, so nothing was looked at or done.
	Stale bool
}

// Page is the answer of a List.
type Page struct {
	KVs  []KV // in key order; read-only
	Rev  Rev  // the revision that was listed
	More bool // the limit was reached: go on from the last key + "\x00", at Rev
}

// Event is one change of one key.
type Event struct {
	Rev     Rev
	Key     Key
	Value   []byte // nil for a deletion
	Prev    []byte // the value before; nil for a creation
	Create  Rev
	PrevMod Rev // the revision of Prev; zero for a creation
	Deleted bool
}

var (
	// ErrCompacted means that the history asked for has been forgotten: list again.
	ErrCompacted = errors.New("revision has been compacted")
	// ErrFuture means that the revision asked for has not been reached here.
	ErrFuture = errors.New("revision is in the future")
	// ErrClosed means that the Watcher was closed.
	ErrClosed = errors.New("watch is closed")
)
