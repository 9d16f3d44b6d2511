package consensus

import (
	"context"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// stagger is the head start each voter has over the next one in an early election, so that they do not split the vote. A
// voter that still knows a Master refuses its own vote to others, so it takes a majority of starts; all learn of an ill
// machine within milliseconds of one another.
const stagger = 100 * time.Millisecond

// hurry lets elections begin early. Heartbeats are rare, because they are most of what an idle cluster costs, and so a
// follower's own patience with a silent Master is long. When those around know that the Master's machine is not well, nobody
// needs to wait for that: the followers' patience drops to the lease, after which the old Master has stepped down anyway. Nor
// need those who know of no Master, because all have just started or an election has failed, and least of all the only voter of
// a cluster, as each new cluster begins. It runs until ctx ends.
func (p *Peer) hurry(ctx context.Context) error {
	calm := p.cfg.Timing.Heartbeat
	patience := calm
	var began time.Time // when the present reason to hurry came up; zero when there is none
	for ctx.Err() == nil {
		changed := p.Changed()
		var ill <-chan struct{}
		if p.cfg.HealthChanged != nil {
			ill = p.cfg.HealthChanged()
		}
		if began.IsZero() {
			began = time.Now()
		}
		want, start := p.patience(began)
		if want == calm {
			began = time.Time{}
		}
		var due <-chan time.Time
		if wait := time.Until(start); want != patience && wait > 0 {
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

// patience is how long this peer should bear the Master's silence, and when it should begin to, if the reason came up at began.
func (p *Peer) patience(began time.Time) (time.Duration, time.Time) {
	r, calm, short := p.raft.Load(), p.cfg.Timing.Heartbeat, p.cfg.Timing.Lease
	line := p.Status().Voters
	place := slices.Index(line, p.cfg.ID)
	state := r.State()
	switch {
	case place < 0 || state == raft.Leader:
		return calm, began
	case state == raft.Candidate || len(line) == 1:
		return short, began
	}
	var health map[PeerID]Health
	if p.cfg.Health != nil {
		health = p.cfg.Health()
	}
	ill := func(id PeerID) bool {
		h, known := health[id]
		return known && !h.Alive
	}
	for _, id := range line[:place] {
		if ill(id) {
			place--
		}
	}
	start := began
	_, master := r.LeaderWithID()
	switch {
	case master == "":
		start = began.Add(short) // one may be there, and about to be heard of
	case !ill(PeerID(master)):
		return calm, began
	default:
		if over := r.LastContact().Add(short); over.After(start) {
			start = over
		}
	}
	return short, start.Add(time.Duration(place) * stagger)
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
