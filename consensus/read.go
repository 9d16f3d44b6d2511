package consensus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"shoal/consensus/store"
)

// ReadIndex waits until this peer's store holds everything that was acknowledged anywhere before the call, and returns a
// revision that does. Reads at that moment, here, are linearizable. It waits for a Master as long as ctx allows; the
// error then is ErrNoMaster and ctx's.
func (p *Peer) ReadIndex(ctx context.Context) (store.Rev, error) {
	retry := time.Millisecond
	for {
		changed := p.Changed()
		rev, err := p.readIndex(ctx)
		if err == nil {
			if err = p.reach(ctx, rev); err == nil {
				return rev, nil
			}
		}
		if ctx.Err() != nil {
			return 0, fmt.Errorf("%w: %w", ErrNoMaster, errors.Join(err, context.Cause(ctx)))
		}
		retry = min(2*retry, 100*time.Millisecond)
		t := time.NewTimer(retry)
		select {
		case <-changed:
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
	}
}

// lag is how long this peer's store may be behind before the Master is asked to say what is committed: much longer than an entry takes.
const lag = 20 * time.Millisecond

// reach waits until this peer's store holds rev. A peer that was away holds a log of which nobody told it how much is committed: the next entry would,
// or else Raft's timer, after seconds. So it asks, again and again in case it was not heard.
func (p *Peer) reach(ctx context.Context, rev store.Rev) error {
	for pause := lag; ; pause = min(2*pause, time.Second) {
		soon, cancel := context.WithTimeout(ctx, pause)
		err := p.store.WaitRev(soon, rev)
		cancel()
		if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		if master, ok := p.Leader(); ok && master != p.cfg.ID && p.begging.CompareAndSwap(false, true) {
			_, _ = p.call(ctx, master, methodTell, 0) // an older Master does not know how: then Raft's timer has to do
			p.begging.Store(false)
		}
	}
}

func (p *Peer) readIndex(ctx context.Context) (store.Rev, error) {
	if p.term.Load() == 0 {
		return p.asks.join(ctx)
	}
	if alone := p.others(); len(alone) == 0 {
		return p.confirm(ctx)
	}
	return p.confirms.join(ctx)
}

// askMaster is one round of a peer that is not the Master.
func (p *Peer) askMaster(ctx context.Context) (store.Rev, error) {
	master, ok := p.Leader()
	if !ok {
		return 0, ErrNoMaster
	}
	if master == p.cfg.ID {
		return p.confirms.join(ctx)
	}
	n, err := p.call(ctx, master, methodRead, 0)
	return store.Rev(n), err
}

// confirm is one round of the Master: what was committed when it began is applied, and a majority of the voters said,
// after it began, that no later term has their vote. So no later Master can have acknowledged anything before.
func (p *Peer) confirm(ctx context.Context) (store.Rev, error) {
	r, term := p.raft.Load(), p.term.Load()
	if term == 0 {
		return 0, ErrNotMaster
	}
	commit := r.CommitIndex()
	if err := p.askVoters(ctx, term); err != nil {
		return 0, err
	}
	if r.CurrentTerm() != term {
		return 0, ErrNotMaster
	}
	if err := p.fsm.applied.Wait(ctx, p.logs.needs(commit, p.fsm.applied.Value())); err != nil {
		return 0, err
	}
	return p.store.Rev(), nil
}

// others returns the voters but this peer.
func (p *Peer) others() []PeerID {
	var out []PeerID
	for _, s := range p.members() {
		if s.Suffrage == raft.Voter && PeerID(s.ID) != p.cfg.ID {
			out = append(out, PeerID(s.ID))
		}
	}
	return out
}

// hedge is how long the voters asked first may take before the others are asked too.
const hedge = 10 * time.Millisecond

// askVoters returns nil when a majority of the voters, this peer included if it is one, knows no later term.
func (p *Peer) askVoters(ctx context.Context, term uint64) error {
	others := p.others()
	need := (len(others) + 1) / 2 // beside this peer
	if !p.votes(p.cfg.ID) {
		need = len(others)/2 + 1
	}
	if need == 0 {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan error, len(others))
	asked := 0
	ask := func(n int) {
		for ; n > 0 && asked < len(others); n-- {
			to := others[asked]
			asked++
			go func() {
				theirs, err := p.call(ctx, to, methodTerm, 0)
				if err == nil && theirs > term {
					err = ErrNotMaster
				}
				answers <- err
			}()
		}
	}
	ask(need)
	late := time.NewTimer(hedge)
	defer late.Stop()
	var errs []error
	for yes := 0; yes < need; {
		select {
		case err := <-answers:
			if err == nil {
				yes++
				continue
			}
			errs = append(errs, err)
			if len(others)-len(errs) < need {
				return fmt.Errorf("%w: %w", ErrNotMaster, errors.Join(errs...))
			}
			ask(1)
		case <-late.C:
			ask(len(others))
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
