package consensus

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/hashicorp/raft"
)

// errKept says that leadership was offered and nobody took it.
var errKept = errors.New("no other voter has taken leadership")

// TransferLeadership makes the most up to date other voter the Master. An error means that this peer still is, or never
// was.
func (p *Peer) TransferLeadership(ctx context.Context) error {
	return p.handOver(ctx, (*raft.Raft).LeadershipTransfer)
}

// transferTo makes one other voter the Master, or any if that has failed in this term.
func (p *Peer) transferTo(ctx context.Context, to PeerID) error {
	return p.handOver(ctx, func(r *raft.Raft) raft.Future {
		return r.LeadershipTransferToServer(raft.ServerID(to), raft.ServerAddress(to))
	})
}

func (p *Peer) handOver(ctx context.Context, transfer func(*raft.Raft) raft.Future) error {
	r := p.raft.Load()
	if r == nil || r.State() != raft.Leader {
		return ErrNotMaster
	}
	err := p.pass(ctx, r, func(ctx context.Context) error { return p.await(ctx, transfer) })
	if errors.Is(err, raft.ErrNotLeader) || errors.Is(err, ErrNotMaster) {
		return ErrNotMaster
	}
	if err != nil {
		return fmt.Errorf("hand leadership over: %w", err)
	}
	return nil
}

// pass makes another voter the Master: by Raft's transfer, which brings what is on its way to an end, but only once a term. After a
// transfer to a follower that hangs in a call, Raft 1.8 leaves what it asked of that follower's loop in a channel of one place, and the next
// transfer waits for that place for ever when the loop ends. So from then on the others are asked to replace this Master, whoever can.
func (p *Peer) pass(ctx context.Context, r *raft.Raft, transfer func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, p.cfg.Timing.Election, errKept)
	var told sync.WaitGroup
	defer func() {
		cancel()
		told.Wait()
	}()
	term := r.CurrentTerm()
	if p.handed.Swap(term) != term {
		return transfer(ctx)
	}
	told.Go(func() { p.resign(ctx, term) }) // a voter that never answers holds nobody up
	for {
		changed := p.Changed()
		if r.State() != raft.Leader || r.CurrentTerm() != term {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// handedOver is a transfer of a peer that stops: Raft gives up what it has not answered by then.
func handedOver(r *raft.Raft) func(context.Context) error {
	return func(ctx context.Context) error {
		done := make(chan error, 1)
		go func() { done <- r.LeadershipTransfer().Error() }()
		select {
		case err := <-done:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
