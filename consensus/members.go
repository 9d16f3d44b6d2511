package consensus

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// AddPeer makes id a member: it gets the log, and a vote when one is due. Only on the Master, else ErrNotMaster; other
// errors are those of Propose. Adding a member again does nothing.
func (p *Peer) AddPeer(ctx context.Context, id PeerID) error {
	if id == "" {
		return errors.New("add peer: no name")
	}
	if p.isMember(id) {
		if p.term.Load() == 0 {
			return ErrNotMaster
		}
		return nil
	}
	err := p.alter(ctx, func(r *raft.Raft) raft.Future {
		return r.AddNonvoter(raft.ServerID(id), raft.ServerAddress(id), 0, p.cfg.Timing.Call)
	})
	if err != nil {
		return fmt.Errorf("add peer %s: %w", id, err)
	}
	return nil
}

// RemovePeer takes id out of the cluster. Only on the Master, as AddPeer; the Master itself cannot be removed: it hands
// leadership over and returns ErrNotMaster, so that the caller asks the next one. Removing a stranger does nothing.
func (p *Peer) RemovePeer(ctx context.Context, id PeerID) error {
	if p.term.Load() == 0 {
		return ErrNotMaster
	}
	if id == p.cfg.ID {
		if err := p.TransferLeadership(ctx); err != nil {
			return fmt.Errorf("remove peer %s, which is the master: %w", id, err)
		}
		return ErrNotMaster
	}
	if !p.isMember(id) {
		return nil
	}
	err := p.alter(ctx, func(r *raft.Raft) raft.Future {
		return r.RemoveServer(raft.ServerID(id), 0, p.cfg.Timing.Call)
	})
	if err != nil {
		return fmt.Errorf("remove peer %s: %w", id, err)
	}
	return nil
}

// alter changes the membership, one change at a time.
func (p *Peer) alter(ctx context.Context, f func(*raft.Raft) raft.Future) error {
	if p.term.Load() == 0 {
		return ErrNotMaster
	}
	select {
	case p.changes <- struct{}{}:
		defer func() { <-p.changes }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	err := p.await(ctx, f)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrNotMaster):
		return err
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	default:
		return outcome(err)
	}
}

// members returns the newest configuration, committed or not, as Raft uses it.
func (p *Peer) members() []raft.Server {
	r := p.raft.Load()
	if r == nil {
		return nil
	}
	return r.GetConfiguration().Configuration().Servers
}

func (p *Peer) isMember(id PeerID) bool {
	for _, s := range p.members() {
		if PeerID(s.ID) == id {
			return true
		}
	}
	return false
}

func (p *Peer) votes(id PeerID) bool {
	for _, s := range p.members() {
		if PeerID(s.ID) == id {
			return s.Suffrage == raft.Voter
		}
	}
	return false
}
