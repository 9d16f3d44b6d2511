package consensus

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
)

// logs is the durable log and vote, with the newest entries in memory. Beside each entry it writes what was known to be
// committed then, so that a peer that starts without a quorum still knows all but the very last of what it had applied.
type logs struct {
	*raft.LogCache
	wal   *wal.WAL
	codec *entryCodec
}

const (
	// segment is the size of a log file; a file is deleted when a snapshot covers all of it.
	segment = 16 << 20
	// cached is how many entries are kept in memory: followers that keep up never make the leader read its disk.
	cached = 1024
)

func openLogs(dir string, log *logger) (*logs, error) {
	c := &entryCodec{}
	w, err := wal.Open(dir, wal.WithCodec(c), wal.WithSegmentSize(segment), wal.WithLogger(log))
	if err != nil {
		return nil, fmt.Errorf("open log in %s: %w", dir, err)
	}
	cache, err := raft.NewLogCache(cached, w)
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return &logs{LogCache: cache, wal: w, codec: c}, nil
}

// StageCommitIndex implements raft.CommitTrackingLogStore.
func (l *logs) StageCommitIndex(index uint64) error {
	l.codec.staged.Store(index)
	return nil
}

// GetCommitIndex implements raft.CommitTrackingLogStore. It tells Raft nothing: Raft 1.8 would queue all entries before
// anything takes them off, and would overlook the configurations among them. See restore.
func (l *logs) GetCommitIndex() (uint64, error) { return 0, nil }

// committed returns the highest index that the log itself knows to be committed. Only before Raft starts.
func (l *logs) committed() (uint64, error) {
	last, err := l.LastIndex()
	if err != nil || last == 0 {
		return 0, err
	}
	var e raft.Log
	if err := l.wal.GetLog(last, &e); err != nil {
		return 0, fmt.Errorf("read log entry %d: %w", last, err)
	}
	return min(l.codec.seen.Load(), last), nil
}

// needs returns the highest index up to commit that the state machine must have applied for its state to be that of
// commit: Raft's own entries never reach it.
func (l *logs) needs(commit, applied uint64) uint64 {
	for i := commit; i > applied; i-- {
		var e raft.Log
		err := l.GetLog(i, &e)
		if errors.Is(err, raft.ErrLogNotFound) {
			return 0 // covered by a snapshot, so applied long ago
		}
		if err != nil || e.Type == raft.LogCommand || e.Type == raft.LogConfiguration {
			return i
		}
	}
	return 0
}
