package consensus

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// noted writes beside each entry what was known to be committed then, so that a peer that starts without a quorum still
// knows all but the very last of what it had applied. The note goes in front of the entry's extensions, which nobody
// else uses: a format version and the index, as uvarints. (The log's own codec cannot carry it: raft-wal 0.4 accepts
// others but does not open again what they wrote.)
type noted struct {
	wal    disk
	staged atomic.Uint64 // committed index written with the next entries
	slow   func()        // called when a write takes longer than stallAfter
}

const noteVersion = 1

// disk keeps entries, vote and term, durably. It is a *wal.WAL.
type disk interface {
	raft.LogStore
	raft.StableStore
	raft.MonotonicLogStore
	io.Closer
}

// committed returns the highest index that the log itself knows to be committed.
func (n *noted) committed() (uint64, error) {
	last, err := n.wal.LastIndex()
	if err != nil || last == 0 {
		return 0, err
	}
	var e raft.Log
	commit, err := n.get(last, &e)
	return min(commit, last), err
}

// StoreLogs implements raft.LogStore.
func (n *noted) StoreLogs(ls []*raft.Log) error {
	note := binary.AppendUvarint([]byte{noteVersion}, n.staged.Load())
	note = note[:len(note):len(note)]
	copies := make([]raft.Log, len(ls))
	out := make([]*raft.Log, len(ls))
	for i, l := range ls {
		copies[i] = *l
		copies[i].Extensions = append(note, l.Extensions...)
		out[i] = &copies[i]
	}
	late := time.AfterFunc(stallAfter, n.slow)
	defer late.Stop()
	return n.wal.StoreLogs(out)
}

// StoreLog implements raft.LogStore.
func (n *noted) StoreLog(l *raft.Log) error { return n.StoreLogs([]*raft.Log{l}) }

// GetLog implements raft.LogStore.
func (n *noted) GetLog(index uint64, l *raft.Log) error {
	_, err := n.get(index, l)
	return err
}

func (n *noted) get(index uint64, l *raft.Log) (commit uint64, err error) {
	// raft-wal still finds entries that were deleted from the front of its only file.
	if first, err := n.wal.FirstIndex(); err != nil || index < first {
		return 0, cmp.Or(err, raft.ErrLogNotFound)
	}
	if err := n.wal.GetLog(index, l); err != nil {
		return 0, err
	}
	d := decoder{rest: l.Extensions}
	v := d.number()
	commit = d.number()
	if d.bad || v != noteVersion {
		return 0, fmt.Errorf("log entry %d has no readable note", index)
	}
	l.Extensions = nil
	if len(d.rest) > 0 {
		l.Extensions = d.rest
	}
	return commit, nil
}

// The rest of raft.LogStore is the log's.

func (n *noted) FirstIndex() (uint64, error)       { return n.wal.FirstIndex() }
func (n *noted) LastIndex() (uint64, error)        { return n.wal.LastIndex() }
func (n *noted) DeleteRange(min, max uint64) error { return n.wal.DeleteRange(min, max) }
func (n *noted) IsMonotonic() bool                 { return n.wal.IsMonotonic() }
