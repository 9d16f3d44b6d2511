package consensus

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"
)

// open loads what the directory holds and starts Raft. The caller closes p.logs and p.trans, whatever the error.
func (p *Peer) open(notify chan<- bool) (*raft.Raft, error) {
	snaps, err := p.openFiles()
	if err != nil {
		return nil, err
	}
	cfg := p.cfg.raft(notify)
	if p.cfg.Bootstrap {
		if err := p.bootstrap(snaps); err != nil {
			return nil, fmt.Errorf("bootstrap: %w", err)
		}
	}
	if err := p.restore(snaps); err != nil {
		return nil, err
	}
	r, err := raft.NewRaft(cfg, p.fsm, p.logs, p.logs.disk.wal, snaps, p.trans)
	if err != nil {
		return nil, fmt.Errorf("start raft: %w", err)
	}
	return r, nil
}

// bootstrap makes this peer the only member of a new cluster, unless its directory holds one. Raft's BootstrapCluster makes the same two
// writes, but if it was killed between them it takes the first for a sign that a cluster is there, and there would never be one.
func (p *Peer) bootstrap(snaps raft.SnapshotStore) error {
	last, err := p.logs.LastIndex()
	if err != nil {
		return err
	}
	taken, err := snaps.List()
	if err != nil {
		return err
	}
	const first = 1
	stable := p.logs.disk.wal
	term, err := stable.GetUint64(keyTerm)
	if err != nil {
		return err
	}
	if last > 0 || len(taken) > 0 || term > first {
		return nil
	}
	if err := stable.SetUint64(keyTerm, first); err != nil {
		return err
	}
	self := raft.Server{ID: raft.ServerID(p.cfg.ID), Address: raft.ServerAddress(p.cfg.ID)}
	members := raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{self}})
	return p.logs.StoreLog(&raft.Log{Index: 1, Term: first, Type: raft.LogConfiguration, Data: members})
}

// keyTerm is where Raft keeps its term.
var keyTerm = []byte("CurrentTerm")

// openFiles opens the log, as p.logs, and the snapshots.
func (p *Peer) openFiles() (raft.SnapshotStore, error) {
	log, logDir := newLogger(p.cfg.Log), filepath.Join(p.cfg.Dir, "log")
	if err := os.MkdirAll(logDir, 0o700); err != nil {
		return nil, fmt.Errorf("make log directory: %w", err)
	}
	var err error
	if p.logs, err = openLogs(logDir, p.cfg, log, p.stalled.fire, p.changed.fire); err != nil {
		return nil, err
	}
	snaps, err := raft.NewFileSnapshotStoreWithLogger(p.cfg.Dir, 2, log)
	if err != nil {
		return nil, fmt.Errorf("open snapshots: %w", err)
	}
	return snaps, nil
}

// restore loads the newest snapshot and then what the log knows to be committed behind it. So a peer that starts while
// there is no quorum, or no network, still has its state. Raft brings these entries again, and the fsm passes over them.
func (p *Peer) restore(snaps raft.SnapshotStore) error {
	list, err := snaps.List()
	if err != nil {
		return fmt.Errorf("list snapshots: %w", err)
	}
	next := uint64(1)
	if len(list) > 0 {
		meta, from, err := snaps.Open(list[0].ID)
		if err != nil {
			return fmt.Errorf("open snapshot %s: %w", list[0].ID, err)
		}
		if err := p.fsm.Restore(from); err != nil {
			return fmt.Errorf("load snapshot %s: %w", list[0].ID, err)
		}
		next = meta.Index + 1
	}
	end, err := p.logs.disk.committed()
	if err != nil {
		return err
	}
	return p.replay(next, end)
}

// replay applies entries of the log, as far as there are any.
func (p *Peer) replay(next, end uint64) error {
	batch := make([]*raft.Log, 0, maxAppend)
	flush := func() error {
		p.fsm.ApplyBatch(batch)
		batch = batch[:0]
		return p.fsm.broken
	}
	for ; next <= end; next++ {
		l := &raft.Log{}
		switch err := p.logs.disk.GetLog(next, l); {
		case errors.Is(err, raft.ErrLogNotFound):
			return flush()
		case err != nil:
			return fmt.Errorf("read log entry %d: %w", next, err)
		}
		if l.Type == raft.LogCommand || l.Type == raft.LogConfiguration {
			batch = append(batch, l)
		}
		if len(batch) == maxAppend {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}
