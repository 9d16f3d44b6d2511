package consensus

import (
	"context"

	"github.com/hashicorp/raft"
)

// watchful is Raft's filter of observations. It runs inside Raft and must not wait. Changed fires here, and not in
// observe, because Raft drops observations that nobody takes at once.
func (p *Peer) watchful(o *raft.Observation) bool {
	switch o.Data.(type) {
	case raft.LeaderObservation, raft.RaftState, raft.PeerObservation:
		p.changed.fire()
		return true
	case raft.FailedHeartbeatObservation, raft.ResumedHeartbeatObservation:
		return true
	}
	return false
}

// observe logs what a reader of the log wants to know, once.
func (p *Peer) observe(ctx context.Context, seen <-chan raft.Observation) error {
	log := p.cfg.Log
	silent := make(map[raft.ServerID]bool)
	var master raft.ServerID
	for {
		select {
		case <-ctx.Done():
			return nil
		case o := <-seen:
			switch d := o.Data.(type) {
			case raft.LeaderObservation:
				if d.LeaderID != "" && d.LeaderID != master {
					master = d.LeaderID
					log.Info("new master", "peer", string(master), "term", p.Term())
				}
				clear(silent)
			case raft.FailedHeartbeatObservation:
				if !silent[d.PeerID] {
					silent[d.PeerID] = true
					log.Warn("peer does not answer", "peer", string(d.PeerID))
				}
			case raft.ResumedHeartbeatObservation:
				if silent[d.PeerID] {
					delete(silent, d.PeerID)
					log.Info("peer answers again", "peer", string(d.PeerID))
				}
			}
		}
	}
}
