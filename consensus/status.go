package consensus

import (
	"context"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"shoal/consensus/store"
)

// Role is what a peer does in the consensus.
type Role string

const (
	RoleMaster  Role = "master"  // leads, after its barrier
	RoleVoter   Role = "voter"   // may become Master
	RoleReplica Role = "replica" // gets the log
	RoleNone    Role = "none"    // is no member, as far as it knows
)

// Status is a picture of one peer, for people.
type Status struct {
	Role     Role
	Leader   PeerID // empty when there is none
	Term     uint64
	Rev      store.Rev
	Applied  uint64 // index of the last log entry in the store
	Last     uint64 // index of the last log entry in the log
	Commit   uint64 // the last index known to be committed
	LogLen   uint64 // entries in the log
	Voters   []PeerID
	Replicas []PeerID
	// LastContact is when the Master was last heard; zero on the Master and when never.
	LastContact time.Time
}

// IsVoter reports whether a peer votes, as far as this one knows. It costs less than Status, for what is asked with requests.
func (p *Peer) IsVoter(id PeerID) bool {
	return slices.ContainsFunc(p.members(), func(m raft.Server) bool { return m.ID == raft.ServerID(id) && m.Suffrage == raft.Voter })
}

// AwaitVoter reports whether a peer votes. While fewer members vote than should, as when machines have just joined, it waits for a member to
// be made a voter until ctx ends.
func (p *Peer) AwaitVoter(ctx context.Context, id PeerID) bool {
	for {
		changed := p.Changed()
		if p.IsVoter(id) {
			return true
		}
		servers, voters, member := p.members(), 0, false
		for _, m := range servers {
			if m.Suffrage == raft.Voter {
				voters++
			}
			member = member || m.ID == raft.ServerID(id)
		}
		if !member || voters >= votersFor(len(servers), p.cfg.VotersMax) {
			return false
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// Status returns what this peer knows of itself. Before Ready that is nothing.
func (p *Peer) Status() Status {
	s := Status{Role: RoleNone, Rev: p.store.Rev(), Applied: p.fsm.applied.Value()}
	r := p.raft.Load()
	if r == nil {
		return s
	}
	s.Leader, _ = p.Leader()
	s.Term, s.Last, s.Commit = r.CurrentTerm(), r.LastIndex(), r.CommitIndex()
	if first, err := p.logs.FirstIndex(); err == nil && first > 0 {
		s.LogLen = s.Last - min(first-1, s.Last)
	}
	for _, m := range p.members() {
		id, role := PeerID(m.ID), RoleReplica
		if m.Suffrage == raft.Voter {
			role = RoleVoter
			s.Voters = append(s.Voters, id)
		} else {
			s.Replicas = append(s.Replicas, id)
		}
		if id == p.cfg.ID {
			s.Role = role
		}
	}
	slices.Sort(s.Voters)
	slices.Sort(s.Replicas)
	if p.term.Load() != 0 {
		s.Role = RoleMaster
	} else {
		s.LastContact = r.LastContact()
	}
	return s
}
