package consensus

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sync/errgroup"
)

// tellCommits lets the other peers know of a commit that no later entry will carry to them. Raft itself leaves them
// waiting for Timing.Commit. The notice is an empty append behind the committed entry, which Raft's protocol allows at
// any time: nothing is written for it, on any disk.
func (p *Peer) tellCommits(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	told := make(map[raft.ServerID]context.CancelFunc)
	well := make(map[PeerID]bool)
	for ctx.Err() == nil {
		changed := p.Changed()
		ill := p.greet(ctx, g, well)
		now := make(map[raft.ServerID]bool)
		for _, s := range p.members() {
			now[s.ID] = true
			if PeerID(s.ID) == p.cfg.ID || told[s.ID] != nil {
				continue
			}
			each, cancel := context.WithCancel(ctx)
			told[s.ID] = cancel
			g.Go(func() error {
				p.tell(each, s)
				return nil
			})
		}
		for id, cancel := range told {
			if !now[id] {
				cancel()
				delete(told, id)
			}
		}
		select {
		case <-changed:
		case <-ill:
		case <-ctx.Done():
		}
	}
	for _, cancel := range told {
		cancel()
	}
	return g.Wait()
}

// greetings is how often a peer that is back is told, before Raft's own heartbeat has to do it: the connection may be one to its earlier life, and its
// listener may not be there yet.
const (
	greetings  = 5
	greetPause = 20 * time.Millisecond // doubled each time
)

// greet tells peers that are back who leads and what is committed, which they would hear with the next heartbeat, after seconds. well is who was well before,
// and is brought up to date. The channel is closed when somebody's health has changed since.
func (p *Peer) greet(ctx context.Context, g *errgroup.Group, well map[PeerID]bool) (changed <-chan struct{}) {
	if p.cfg.Health == nil || p.cfg.HealthChanged == nil {
		return nil
	}
	changed = p.cfg.HealthChanged()
	for id, h := range p.cfg.Health() {
		was, known := well[id]
		well[id] = h.Alive
		if id == p.cfg.ID || !h.Alive || was || !known {
			continue
		}
		g.Go(func() error {
			for pause := greetPause; ctx.Err() == nil && pause < greetPause<<greetings; pause *= 2 {
				if err := p.tellNow(id); err == nil || errors.Is(err, errOver) {
					break
				}
				rest(ctx, pause)
			}
			return nil
		})
	}
	return changed
}

// tell sends one peer its notices, one at a time, each with the newest there is.
func (p *Peer) tell(ctx context.Context, to raft.Server) {
	r := p.raft.Load()
	for seen := p.fsm.applied.Value(); p.fsm.applied.Wait(ctx, seen+1) == nil; {
		seen = p.fsm.applied.Value()
		pause := time.Millisecond
		for ctx.Err() == nil {
			commit := r.CommitIndex()
			if r.LastIndex() > commit {
				break // the entries behind carry it, and their own commit comes by here
			}
			err := p.notice(to, commit)
			if err == nil {
				break
			}
			// The entry itself may still be on its way there; later, Raft's own timer does.
			if pause > p.cfg.Timing.Commit || !errors.Is(err, errBehind) {
				break
			}
			rest(ctx, pause)
			pause *= 2
		}
	}
}

// tellNow sends a peer that asks for it what is committed. If it has not got all of that, an empty entry makes Raft send it the rest.
func (p *Peer) tellNow(to PeerID) error {
	r := p.raft.Load()
	for _, s := range p.members() {
		if s.ID != raft.ServerID(to) {
			continue
		}
		err := p.notice(s, r.CommitIndex())
		if errors.Is(err, errBehind) && r.LastIndex() == r.CommitIndex() {
			r.Barrier(p.cfg.Timing.Call) // whose end nobody has to wait for
		}
		return err
	}
	return errOver
}

var errBehind = errors.New("the peer has not got the entry yet")

func (p *Peer) notice(to raft.Server, commit uint64) error {
	term := p.term.Load()
	var e raft.Log
	if err := p.logs.GetLog(commit, &e); err != nil {
		return err
	}
	if term == 0 {
		return errOver
	}
	self := raft.ServerAddress(p.cfg.ID)
	addr := p.trans.EncodePeer(raft.ServerID(p.cfg.ID), self)
	req := &raft.AppendEntriesRequest{
		RPCHeader:         raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(p.cfg.ID), Addr: addr},
		Term:              term,
		Leader:            addr,
		PrevLogEntry:      e.Index,
		PrevLogTerm:       e.Term,
		LeaderCommitIndex: e.Index, // not more: the peer takes its last entry for ours up to here
	}
	var resp raft.AppendEntriesResponse
	if err := p.trans.AppendEntries(to.ID, to.Address, req, &resp); err != nil {
		return err
	}
	if !resp.Success {
		return errBehind
	}
	return nil
}
