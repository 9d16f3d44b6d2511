package consensus

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// catchUp is how long a replica may take to reach what is committed now before another one is considered.
	catchUp = 10 * time.Second
	// tryAgain is the pause after a step that failed or a replica that did not catch up.
	tryAgain = 2 * time.Second
)

// keepVoters brings the voters to what plan wants, one step at a time, whenever the membership or the health changes.
func (p *Peer) keepVoters(ctx context.Context) error {
	behind := make(map[PeerID]bool)
	for ctx.Err() == nil {
		changed := p.Changed()
		var ill <-chan struct{}
		var health map[PeerID]Health
		if p.cfg.Health != nil {
			if p.cfg.HealthChanged != nil {
				ill = p.cfg.HealthChanged()
			}
			health = p.cfg.Health()
		}
		s := plan(p.members(), health, p.cfg.ID, p.cfg.VotersMax, behind)
		var again *time.Timer
		var wait <-chan time.Time
		if s.do != keep {
			if s.before != "" && !p.caughtUp(ctx, s.before) {
				behind[s.before] = true
				continue
			}
			err := p.change(ctx, s)
			if err == nil {
				continue
			}
			if ctx.Err() != nil {
				break
			}
			p.cfg.Log.Debug("voters not changed", "peer", string(s.peer), "err", err)
		}
		if to := faster(p.members(), health, p.cfg.ID); s.do == keep && to != "" {
			p.cfg.Log.Warn("hands leadership over: this disk is too slow", "to", string(to), "took", health[p.cfg.ID].Disk)
			if err := p.transferTo(ctx, to); err == nil {
				return nil
			}
			behind[to] = true // try again
		}
		if s.do != keep || len(behind) > 0 {
			again = time.NewTimer(tryAgain)
			wait = again.C
		}
		select {
		case <-changed:
		case <-ill:
		case <-wait:
		case <-ctx.Done():
		}
		if again != nil {
			again.Stop()
		}
		clear(behind)
	}
	return nil
}

// caughtUp waits until a replica has applied what this peer has.
func (p *Peer) caughtUp(ctx context.Context, id PeerID) bool {
	ctx, cancel := context.WithTimeout(ctx, catchUp)
	defer cancel()
	_, err := p.call(ctx, id, methodAwait, p.fsm.applied.Value())
	if err != nil {
		p.cfg.Log.Debug("replica did not catch up", "peer", string(id), "err", err)
	}
	return err == nil
}

func (p *Peer) change(ctx context.Context, s step) error {
	id := raft.ServerID(s.peer)
	switch s.do {
	case promote:
		p.cfg.Log.Info("gives a vote", "peer", string(s.peer))
		return p.alter(ctx, func(r *raft.Raft) raft.Future {
			return r.AddVoter(id, raft.ServerAddress(s.peer), 0, p.cfg.Timing.Call)
		})
	case demote:
		p.cfg.Log.Info("takes a vote", "peer", string(s.peer))
		return p.alter(ctx, func(r *raft.Raft) raft.Future { return r.DemoteVoter(id, 0, p.cfg.Timing.Call) })
	}
	return fmt.Errorf("no such step: %d", s.do)
}
