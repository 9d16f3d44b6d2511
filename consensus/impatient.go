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
// need those who know of no Master, because all have just started or an election has failed, and least of all the only voter of
// a cluster, as each new cluster begins. It runs until ctx ends.
func (p *Peer) hurry(ctx context.Context) error {
	began := time.Now()
	patience := p.cfg.Timing.Heartbeat
	for ctx.Err() == nil {
		changed := p.Changed()
		var ill <-chan struct{}
		if p.cfg.HealthChanged != nil {
			ill = p.cfg.HealthChanged()
		}
		want, at := p.patience(began)
		var due <-chan time.Time
		if wait := time.Until(at); want != patience && wait > 0 {
			due = time.After(wait)
		} else if want != patience {
			p.setPatience(want)
			patience = want
		}
		select {
		case <-changed:
		case <-ill:
		case <-due:
		case <-ctx.Done():
		}
	}
	return nil
}

// patience is how long this peer, which began then, should bear the Master's silence, and from when on.
func (p *Peer) patience(began time.Time) (time.Duration, time.Time) {
	r, calm, short := p.raft.Load(), p.cfg.Timing.Heartbeat, p.cfg.Timing.Lease
	line := p.Status().Voters
	place := slices.Index(line, p.cfg.ID)
	state := r.State()
	switch {
	case place < 0 || state == raft.Leader:
		return calm, time.Time{}
	case state == raft.Candidate || len(line) == 1:
		return short, time.Time{}
	}
	var health map[PeerID]Health
	if p.cfg.Health != nil {
		health = p.cfg.Health()
	}
	ill := func(id PeerID) bool {
		h, known := health[id]
		return known && !h.Alive
	}
	if _, master := r.LeaderWithID(); master != "" && !ill(PeerID(master)) {
		return calm, time.Time{}
	}
	for _, id := range line[:place] {
		if ill(id) {
			place--
		}
	}
	heard := r.LastContact()
	if heard.Before(began) {
		heard = began
	}
	return short, heard.Add(short + time.Duration(place)*stagger)
}

// setPatience changes what Raft bears. Where that is less than before, Raft looks at once how long the silence has been.
func (p *Peer) setPatience(d time.Duration) {
	r := p.raft.Load()
	rc := r.ReloadableConfig()
	rc.HeartbeatTimeout, rc.ElectionTimeout = d, max(d, p.cfg.Timing.Election*d/p.cfg.Timing.Heartbeat)
	if err := r.ReloadConfig(rc); err != nil {
		p.cfg.Log.Error("change raft's patience", "err", err)
	}
}
