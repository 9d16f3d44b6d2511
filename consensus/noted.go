package consensus

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// noted writes beside each entry what was known to be committed then, so that a peer that starts without a quorum still
// knows all but the very last of what it had applied; and a checksum, as raft-wal looks at its own only for what it wrote last. The note
// goes in front of the entry's extensions, which nobody else uses: a format version, the index and the checksum, as uvarints. (The log's own
// codec cannot carry it: raft-wal 0.4 accepts others but does not open again what they wrote.)
type noted struct {
	wal    disk
	extent *extent
	staged atomic.Uint64 // committed index written with the next entries
	slow   func()        // called when a write takes longer than stallAfter, or fails
	pace   pace
}

const (
	noteVersion = 2
	// noteBare is the format without a checksum.
	noteBare = 1
)

// ErrDamaged means that the disk gives back something else than was written. It can only be had again from other peers.
var ErrDamaged = errors.New("the disk has changed what was written")

// sum is the CRC-32C of an entry without its note.
func sum(l *raft.Log) uint32 {
	var head [17]byte
	binary.BigEndian.PutUint64(head[:], l.Index)
	binary.BigEndian.PutUint64(head[8:], l.Term)
	head[16] = byte(l.Type)
	c := crc32.Update(0, castagnoli, head[:])
	c = crc32.Update(c, castagnoli, l.Data)
	return crc32.Update(c, castagnoli, l.Extensions)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

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
	committed := n.staged.Load()
	notes := make([]byte, 0, len(ls)*(1+binary.MaxVarintLen64+binary.MaxVarintLen32))
	copies := make([]raft.Log, len(ls))
	out := make([]*raft.Log, len(ls))
	for i, l := range ls {
		begin := len(notes)
		notes = append(notes, noteVersion)
		notes = binary.AppendUvarint(notes, committed)
		notes = binary.AppendUvarint(notes, uint64(sum(l)))
		copies[i] = *l
		copies[i].Extensions = append(notes[begin:len(notes):len(notes)], l.Extensions...)
		out[i] = &copies[i]
	}
	late := time.AfterFunc(stallAfter, n.slow)
	defer late.Stop()
	began := time.Now()
	err := n.wal.StoreLogs(out)
	n.pace.add(time.Since(began), err)
	if err != nil {
		n.slow()
		return err
	}
	n.extent.raise(ls[len(ls)-1].Index)
	return nil
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
	var want uint64
	if v == noteVersion {
		want = d.number()
	}
	l.Extensions = nil
	if len(d.rest) > 0 {
		l.Extensions = d.rest
	}
	if d.bad || v != noteVersion && v != noteBare || l.Index != index || v == noteVersion && want != uint64(sum(l)) {
		return 0, fmt.Errorf("log entry %d: %w", index, ErrDamaged)
	}
	return commit, nil
}

// DeleteRange implements raft.LogStore.
func (n *noted) DeleteRange(min, max uint64) error {
	first, err := n.wal.FirstIndex()
	if err != nil {
		return err
	}
	last, err := n.wal.LastIndex()
	if err != nil {
		return err
	}
	if max >= last && min <= last { // else the end stays
		left := min - 1
		if min <= first {
			left = 0
		}
		if err := n.extent.lower(left); err != nil {
			return err
		}
	}
	return n.wal.DeleteRange(min, max)
}

// The rest of raft.LogStore is the log's.

func (n *noted) FirstIndex() (uint64, error) { return n.wal.FirstIndex() }
func (n *noted) LastIndex() (uint64, error)  { return n.wal.LastIndex() }
func (n *noted) IsMonotonic() bool           { return n.wal.IsMonotonic() }

// Close lets go of the files.
func (n *noted) Close() error {
	n.pace.stop()
	return errors.Join(n.wal.Close(), n.extent.Close())
}
