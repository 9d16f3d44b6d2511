package consensus

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"shoal/consensus/store"
)

// Salvage is what the directory of a peer that does not run holds of a cluster that is lost.
type Salvage struct {
	// Store has everything in the log: what the peer knew to be committed, and what came after it, which may have been acknowledged.
	Store     *store.Store
	Committed store.Rev // up to here the peer knew it to be committed
	Written   time.Time // when a Master made the newest entry; zero when only a snapshot is left
	Voters    []PeerID
	Replicas  []PeerID

	peer  *Peer
	snaps raft.SnapshotStore
	index uint64 // of the newest entry
	term  uint64
}

// ErrNothing means that a directory holds no state of a cluster.
var ErrNothing = errors.New("there is no state of a cluster")

// OpenSalvage reads the directory of cfg, of which ID, Dir and Log are used, and changes nothing that matters in it. The caller must
// Close the result, and see to it that the peer does not run meanwhile. An ErrNothing means that the directory is empty.
func OpenSalvage(cfg Config) (*Salvage, error) {
	if _, err := os.Stat(cfg.Dir); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNothing, err)
	}
	p := New(cfg)
	s := &Salvage{Store: p.store, peer: p}
	snaps, err := p.openFiles()
	if err == nil {
		s.snaps = snaps
		err = s.read()
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Close lets go of the directory.
func (s *Salvage) Close() error {
	if s.peer.logs == nil {
		return nil
	}
	return s.peer.logs.disk.Close()
}

func (s *Salvage) read() error {
	var members raft.Configuration
	first := uint64(1)
	list, err := s.snaps.List()
	if err != nil {
		return fmt.Errorf("list snapshots: %w", err)
	}
	if len(list) > 0 {
		s.index, s.term, members, first = list[0].Index, list[0].Term, list[0].Configuration, list[0].Index+1
	}
	last, err := s.peer.logs.LastIndex()
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	if last == 0 && len(list) == 0 {
		return ErrNothing
	}
	if err := s.peer.restore(s.snaps); err != nil {
		return err
	}
	s.Committed = s.Store.Rev()
	for i := first; i <= last; i++ {
		var e raft.Log
		if err := s.peer.logs.GetLog(i, &e); err != nil {
			return fmt.Errorf("read log entry %d: %w", i, err)
		}
		if e.Type == raft.LogConfiguration {
			members = raft.DecodeConfiguration(e.Data)
		}
		s.index, s.term, s.Written = e.Index, e.Term, e.AppendedAt
	}
	for _, m := range members.Servers {
		if m.Suffrage == raft.Voter {
			s.Voters = append(s.Voters, PeerID(m.ID))
		} else {
			s.Replicas = append(s.Replicas, PeerID(m.ID))
		}
	}
	slices.Sort(s.Voters)
	slices.Sort(s.Replicas)
	return s.peer.replay(max(first, s.peer.fsm.applied.Value()+1), last)
}

// Plant makes an empty directory that of a cluster of which the peer is the only member, with the given values, at a revision that a
// cluster which was at rev when they were taken from it has not seen.
func Plant(cfg Config, rev store.Rev, values map[store.Key][]byte) error {
	p := New(cfg)
	s := &Salvage{Store: p.store, peer: p, index: 1, term: 1}
	snaps, err := p.openFiles()
	if err != nil {
		return errors.Join(err, s.Close())
	}
	s.snaps = snaps
	var t store.Txn
	for _, key := range slices.Sorted(maps.Keys(values)) {
		t.Ops = append(t.Ops, store.Op{Key: key, Value: values[key]})
	}
	s.Store.Jump(rev + beyond)
	return errors.Join(s.Alone(t.Ops), s.Close())
}

// beyond is how far a recovered cluster's revisions jump: further than those who are lost can have come, at ten thousand changes a
// second for a day. etcd advises the same for what it restores (--bump-revision).
const beyond store.Rev = 1_000_000_000

// Alone makes the directory that of a cluster of which the peer is the only member: with everything in Store, and ops done to it,
// at a revision that nobody has seen yet. It is done wholly or not at all.
func (s *Salvage) Alone(ops []store.Op) error {
	s.Store.Apply(s.term, store.Txn{Ops: ops})
	s.Store.Jump(beyond)
	id := raft.ServerID(s.peer.cfg.ID)
	only := raft.Configuration{Servers: []raft.Server{{ID: id, Address: raft.ServerAddress(id)}}}
	_, unused := raft.NewInmemTransport(raft.ServerAddress(id)) // how addresses are written is a transport's matter
	sink, err := s.snaps.Create(raft.SnapshotVersionMax, s.index, s.term, only, 1, unused)
	if err != nil {
		return fmt.Errorf("begin a snapshot: %w", err)
	}
	state, err := s.peer.fsm.Snapshot()
	if err != nil {
		return errors.Join(err, sink.Cancel())
	}
	if err := state.Persist(sink); err != nil {
		return err
	}
	// From here on it is done: Raft takes from its log only what follows the snapshot.
	first, err := s.peer.logs.FirstIndex()
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	if first == 0 {
		return nil
	}
	if err := s.peer.logs.DeleteRange(first, s.index); err != nil {
		return fmt.Errorf("empty the log, which the snapshot covers: %w", err)
	}
	return nil
}
