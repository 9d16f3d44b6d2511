package consensus

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
)

// logs is the durable log and vote, with the newest entries in memory.
type logs struct {
	*raft.LogCache
	disk *noted
}

const (
	// segment is the size of a log file; a file is deleted when a snapshot covers all of it.
	segment = 16 << 20
	// cached is how many entries are kept in memory: followers that keep up never make the leader read its disk.
	cached = 1024
)

// openLogs opens the log in a directory, or begins one. It calls slow when a write takes too long or fails, and paced when the disk has become slow,
// or is not any more; neither may wait.
func openLogs(dir string, cfg Config, log *logger, slow, paced func()) (*logs, error) {
	open := cfg.disk
	if open == nil {
		open = openDisk
	}
	w, err := open(dir, log)
	if err != nil {
		return nil, fmt.Errorf("open log in %s: %w", dir, err)
	}
	far, err := openExtent(filepath.Join(dir, "extent"))
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	n := &noted{wal: w, extent: far, slow: slow, pace: pace{changed: paced}}
	last, err := n.LastIndex()
	if err == nil {
		err = far.check(last)
	}
	if err != nil {
		return nil, errors.Join(err, n.Close())
	}
	cache, err := raft.NewLogCache(cached, n)
	if err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return &logs{LogCache: cache, disk: n}, nil
}

func openDisk(dir string, log *logger) (disk, error) {
	return wal.Open(dir, wal.WithSegmentSize(segment), wal.WithLogger(log))
}

// StageCommitIndex implements raft.CommitTrackingLogStore.
func (l *logs) StageCommitIndex(index uint64) error {
	l.disk.staged.Store(index)
	return nil
}

// GetCommitIndex implements raft.CommitTrackingLogStore. It tells Raft nothing: Raft 1.8 would queue all entries before
// anything takes them off, and would overlook the configurations among them. Peer.restore does it instead.
func (l *logs) GetCommitIndex() (uint64, error) { return 0, nil }

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
