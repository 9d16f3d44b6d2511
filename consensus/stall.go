package consensus

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// stallAfter is how long the Master's disk may take for one write before another peer takes over. A disk that others use, too,
// may take a second now and then.
const stallAfter = 3 * time.Second

// errStalled ends the work of a term whose Master cannot write.
var errStalled = errors.New("the disk has not finished a write for " + stallAfter.String() + ", or failed to")

// standBack asks the other voters to replace this Master whenever its disk stalls or fails, until ctx ends. Raft keeps a leader whose disk
// stalls for ever, because its heartbeats need no disk, and its handing over needs the loop that waits for the disk; one whose disk fails
// steps down, and then the others would wait for it.
func (p *Peer) standBack(ctx context.Context, term uint64) {
	for {
		select {
		case <-p.stalled.wait():
		case <-ctx.Done():
			return
		}
		p.cfg.Log.Error("gives up being Master", "term", term, "err", errStalled)
		p.resign(context.WithoutCancel(ctx), term) // the term may end meanwhile
	}
}

// untilStalled returns when the disk stalls or ctx ends.
func (p *Peer) untilStalled(ctx context.Context) error {
	select {
	case <-p.stalled.wait():
		return errStalled
	case <-ctx.Done():
		return nil
	}
}

// resign asks the others to replace this Master, and returns when they have answered or had the time to.
func (p *Peer) resign(ctx context.Context, term uint64) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timing.Call)
	defer cancel()
	var told sync.WaitGroup
	for _, id := range p.others() {
		told.Go(func() {
			if _, err := p.call(ctx, id, methodResign, term); err != nil {
				p.cfg.Log.Debug("resign", "to", string(id), "err", err)
			}
		})
	}
	told.Wait()
}

// resigns notes that the Master of a term wants to be replaced.
func (p *Peer) resigns(by PeerID, term uint64) {
	if r := p.raft.Load(); r.CurrentTerm() == term && r.State() != raft.Leader {
		if _, master := r.LeaderWithID(); PeerID(master) == by {
			p.resigned.Store(term)
			p.changed.fire()
		}
	}
}

// hasResigned reports whether the Master of the present term wants to be replaced.
func (p *Peer) hasResigned() bool { return p.resigned.Load() == p.raft.Load().CurrentTerm() }
