package consensus

import (
	"context"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// stagger is the head start each voter has over the next one in an early election, so that they do not split the vote: all
// learn of an ill machine within milliseconds of one another.
const stagger = 100 * time.Millisecond

// beats is how many heartbeats Raft sends in the patience it is told, if each pause is the shortest; the longest is twice that.
const beats = 10

// hurry lets elections begin early. Heartbeats are rare, because they are most of what an idle cluster costs, and so a
// follower's own patience with a silent Master is long. When those around know that the Master's machine is not well, nobody
// waits for that: if it does not answer, either, and with the consent of a majority, the first of the
// voters stands for election. Those
// who know of no Master, because all have just started or an election has failed, need no long patience either, and least of all
// the only voter of a cluster, as each new cluster begins. It runs until ctx ends.
func (p *Peer) hurry(ctx context.Context) error {
	calm := p.cfg.Timing.Heartbeat
	patience := calm
	var began time.Time // when the present reason to hurry came up; zero when there is none
	var stood time.Time // when this peer last tried to stand for election
	for ctx.Err() == nil {
		changed := p.Changed()
		var ill <-chan struct{}
		if p.cfg.HealthChanged != nil {
			ill = p.cfg.HealthChanged()
		}
		if began.IsZero() {
			began = time.Now()
		}
		h := p.haste(began)
		if h.patience >= calm {
			began = time.Time{}
		}
		if again := stood.Add(p.cfg.Timing.Ill / 2); h.stand && h.at.Before(again) {
			h.at = again
		}
		var due <-chan time.Time
		switch wait := time.Until(h.at); {
		case !h.stand && h.patience == patience:
		case wait > 0:
			due = time.After(wait)
		default:
			if h.patience != patience {
				p.setPatience(h.patience)
				patience = h.patience
			}
			if h.stand {
				p.bid(ctx)
				stood = time.Now()
				due = time.After(p.cfg.Timing.Ill / 2)
			}
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

// haste is what a peer does about a silent Master, from a moment on.
type haste struct {
	patience time.Duration // how long it bears the silence, or what makes its heartbeats as rare as they should be when it leads
	stand    bool          // it stands for election itself
	at       time.Time
}

// haste returns what this peer should do if the reason for it came up at began.
func (p *Peer) haste(began time.Time) haste {
	r, calm, short := p.raft.Load(), haste{patience: p.cfg.Timing.Heartbeat, at: began}, haste{patience: p.cfg.Timing.Lease, at: began}
	line := p.Status().Voters
	place := slices.Index(line, p.cfg.ID)
	state := r.State()
	_, failed := p.Disk()
	switch {
	case state == raft.Leader:
		return haste{patience: beats * p.cfg.Timing.Beat, at: began}
	case place < 0 || failed != nil: // who cannot write should not lead
		return calm
	case state == raft.Candidate || len(line) == 1:
		return short
	}
	ill := p.ill()
	for _, id := range line[:place] {
		if ill(id) {
			place--
		}
	}
	_, master := r.LeaderWithID()
	switch {
	case master == "":
		short.at = began.Add(short.patience) // one may be there, and about to be heard of
	case p.hasResigned():
		short.stand = true
	case !ill(PeerID(master)):
		return calm
	default:
		short.stand = true
	}
	short.at = short.at.Add(time.Duration(place) * stagger)
	return short
}

// ill returns a test for peers that are known not to be well.
func (p *Peer) ill() func(PeerID) bool {
	var health map[PeerID]Health
	if p.cfg.Health != nil {
		health = p.cfg.Health()
	}
	return func(id PeerID) bool {
		h, known := health[id]
		return known && !h.Alive
	}
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
