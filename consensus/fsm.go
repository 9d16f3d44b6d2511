package consensus

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/hashicorp/raft"

	"shoal/consensus/store"
)

// fsm hands committed entries to the store. Raft calls it from one goroutine at a time.
type fsm struct {
	store   *store.Store
	applied store.Mark // index of the last entry in the store
	// broken, once set, is why no entry may be applied any more.
	broken  error
	failed  func(error) // told once about broken
	changed func()      // the membership may have changed
}

// ApplyBatch implements raft.BatchingFSM. Entries that the replay at start already brought are passed over.
func (f *fsm) ApplyBatch(entries []*raft.Log) []any {
	out := make([]any, len(entries))
	done := f.applied.Value()
	members := false
	for i, l := range entries {
		if l.Index <= done {
			continue
		}
		if l.Type == raft.LogConfiguration {
			members = true
		} else {
			out[i] = f.apply(l)
		}
		if f.broken == nil {
			done = l.Index
		}
	}
	f.applied.Advance(done)
	if members {
		f.changed()
	}
	return out
}

// Apply implements raft.FSM.
func (f *fsm) Apply(l *raft.Log) any { return f.ApplyBatch([]*raft.Log{l})[0] }

func (f *fsm) apply(l *raft.Log) any {
	if f.broken != nil {
		return f.broken
	}
	t, err := decodeCommand(l.Data)
	if err != nil {
		f.broken = fmt.Errorf("log entry %d of term %d: %w", l.Index, l.Term, err)
		f.failed(f.broken)
		return f.broken
	}
	return f.store.Apply(l.Term, t)
}

// A state is the magic, the version and as a uvarint the index of the last entry applied, then the store's snapshot.
const (
	stateMagic   = "SHOALFSM"
	stateVersion = 1
)

// state implements raft.FSMSnapshot.
type state struct {
	applied uint64
	image   *store.Image
}

// Snapshot implements raft.FSM.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	if f.broken != nil {
		return nil, f.broken
	}
	return &state{applied: f.applied.Value(), image: f.store.Capture()}, nil
}

// Persist implements raft.FSMSnapshot.
func (s *state) Persist(sink raft.SnapshotSink) error {
	head := append([]byte(stateMagic), stateVersion)
	_, err := sink.Write(binary.AppendUvarint(head, s.applied))
	if err == nil {
		err = s.image.Write(sink)
	}
	if err != nil {
		_ = sink.Cancel()
		return fmt.Errorf("write state: %w", err)
	}
	return sink.Close()
}

// Release implements raft.FSMSnapshot.
func (s *state) Release() {}

// Restore implements raft.FSM.
func (f *fsm) Restore(from io.ReadCloser) error {
	defer from.Close()
	r := bufio.NewReaderSize(from, 1<<16)
	head := make([]byte, len(stateMagic)+1)
	if _, err := io.ReadFull(r, head); err != nil {
		return fmt.Errorf("read state: %w", err)
	}
	if !bytes.Equal(head, append([]byte(stateMagic), stateVersion)) {
		return fmt.Errorf("read state: version %d of %q: %w", head[len(stateMagic)], head[:len(stateMagic)], ErrVersion)
	}
	applied, err := binary.ReadUvarint(r)
	if err != nil {
		return fmt.Errorf("read state: %w", err)
	}
	if err := f.store.Restore(r); err != nil {
		return err
	}
	f.applied.Advance(applied)
	f.changed()
	return nil
}
