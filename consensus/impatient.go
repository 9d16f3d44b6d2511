package consensus

import (
	"context"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// stagger is the head start each voter has over the next one in an early election, so that they do not split the vote.
const stagger = 200 * time.Millisecond

// hurry lets elections begin early. Heartbeats are rare, because they are most of what an idle cluster costs, and so a
// follower's own patience with a silent Master is long. When those around know that the Master's machine is not well, nobody
// needs to wait for that: the followers' patience drops to the lease, after which the old Master has stepped down anyway. Nor
// does the only voter of a cluster, as each new cluster begins. A shorter patience makes Raft look at once how long the
// silence has been. It runs until ctx ends.
func (p *Peer) hurry(ctx context.Context) error {
	r := p.raft.Load()
	patience := p.cfg.Timing.Heartbeat
	for {
		changed := p.Changed()
		var ill <-chan struct{}
		if p.cfg.HealthChanged != nil {
			ill = p.cfg.HealthChanged()
		}
		want, wait := p.patience(r)
		if want != patience && wait > 0 {
			turn := time.NewTimer(wait)
			select {
			case <-turn.C:
			case <-changed: // perhaps another one was elected
			case <-ctx.Done():
			}
			turn.Stop()
			want, _ = p.patience(r)
		}
		if want != patience && ctx.Err() == nil {
			rc := r.ReloadableConfig()
			rc.HeartbeatTimeout = want
			if err := r.ReloadConfig(rc); err != nil {
				p.cfg.Log.Error("change raft's patience", "err", err)
			}
			patience = want
		}
		select {
		case <-ill:
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// patience is how long this peer should bear the Master's silence now, and how long it should let the voters before it in
// line try first.
func (p *Peer) patience(r *raft.Raft) (time.Duration, time.Duration) {
	calm := p.cfg.Timing.Heartbeat
	if r.State() != raft.Follower {
		return calm, 0
	}
	line := p.Status().Voters
	if len(line) == 1 && line[0] == p.cfg.ID {
		return p.cfg.Timing.Lease, 0
	}
	if p.cfg.Health == nil {
		return calm, 0
	}
	_, leader := r.LeaderWithID()
	health := p.cfg.Health()
	if h, known := health[PeerID(leader)]; !known || h.Alive {
		return calm, 0
	}
	line = slices.DeleteFunc(line, func(id PeerID) bool { return id != p.cfg.ID && !health[id].Alive })
	return p.cfg.Timing.Lease, time.Duration(slices.Index(line, p.cfg.ID)) * stagger
}
