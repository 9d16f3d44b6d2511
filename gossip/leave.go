package gossip

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/memberlist"
	"golang.org/x/sync/errgroup"
)

// errNotRunning: Run has ended.
var errNotRunning = errors.New("gossip is not running")

// Leave says goodbye, so that nobody suspects a fault, and returns when a peer has heard it or ctx ends. This peer goes on
// listening until Run's context ends, which should be soon.
func (g *Gossip) Leave(ctx context.Context) error {
	answer := make(chan error, 1)
	select {
	case g.leave <- answer:
	case <-g.done:
		return errNotRunning
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-answer:
		return err
	case <-g.done:
		return errNotRunning
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (g *Gossip) awaitLeave(ctx context.Context, ml *memberlist.Memberlist) error {
	for {
		select {
		case answer := <-g.leave:
			answer <- g.sayGoodbye(ml)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (g *Gossip) sayGoodbye(ml *memberlist.Memberlist) error {
	g.mu.Lock()
	g.seq++
	v := vote{Voter: g.cfg.Name, Subject: g.cfg.Name, Seq: g.seq, Verdict: goodbye}
	g.ballots.add(v)
	g.mu.Unlock()
	g.queue.QueueBroadcast(newBroadcast(v))
	// By stream to a few, because this word must not be lost; they pass it on.
	var group errgroup.Group
	living := g.living()
	for _, n := range living[:min(direct, len(living))] {
		group.Go(func() error { return ml.SendReliable(n, encodeVotes([]vote{v})) })
	}
	if err := group.Wait(); err != nil {
		g.log.Debug("say goodbye", "err", err)
	}
	if err := ml.Leave(g.cfg.Timings.Stream); err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	return nil
}

// unsettled is for how long metadata may not have reached everyone: memberlist sends news a few times only, and while a machine is dying, those may all go to
// it. So they are sent again when it has fallen.
const unsettled = 10 * time.Second

// announceMeta tells the others when this peer's metadata changed.
func (g *Gossip) announceMeta(ctx context.Context, ml *memberlist.Memberlist) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-g.announce:
		}
		g.mu.Lock()
		if string(g.told) != string(g.meta) {
			g.told, g.toldAt = g.meta, time.Now()
		}
		g.mu.Unlock()
		if err := ml.UpdateNode(time.Second); err != nil {
			g.log.Debug("announce metadata", "err", err) // it is queued all the same
		}
	}
}
