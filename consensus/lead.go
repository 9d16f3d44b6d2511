package consensus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sync/errgroup"
)

// mandate is one spell of leadership: from one "true" of Raft to whatever it says next, even "true" again.
type mandate struct {
	term uint64
	over chan struct{}
}

func (m mandate) isOver() bool {
	select {
	case <-m.over:
		return true
	default:
		return false
	}
}

// errOver means that the term ended, which is nobody's fault.
var errOver = errors.New("the term is over")

// pump turns Raft's notices into mandates. It never waits for those who serve them.
func (p *Peer) pump(notify <-chan bool, terms chan mandate, stop <-chan struct{}) {
	var cur *mandate
	end := func() {
		if cur != nil {
			close(cur.over)
			p.term.CompareAndSwap(cur.term, 0)
			cur = nil
		}
	}
	defer end()
	for {
		select {
		case <-stop:
			return
		case elected := <-notify:
			end()
			if elected {
				cur = &mandate{term: p.raft.Load().CurrentTerm(), over: make(chan struct{})}
				select {
				case <-terms: // never begun, and over by now
				default:
				}
				terms <- *cur
			}
			p.changed.fire()
		}
	}
}

func (p *Peer) serveTerms(ctx context.Context, terms <-chan mandate) error {
	for {
		select {
		case m := <-terms:
			p.serve(ctx, m)
		case <-ctx.Done():
			return nil
		}
	}
}

// serve leads until the mandate is over. When the work ends before, it hands leadership over, and when nobody takes it
// tries again, ever less often.
func (p *Peer) serve(ctx context.Context, m mandate) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var beside sync.WaitGroup
	beside.Go(func() {
		select {
		case <-m.over:
			cancel(fmt.Errorf("%w: term %d is over", ErrNotMaster, m.term))
		case <-ctx.Done():
		}
	})
	beside.Go(func() { p.standBack(ctx, m.term) })
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		err := p.lead(ctx, m)
		if ctx.Err() != nil || errors.Is(err, errOver) {
			break
		}
		p.cfg.Log.Warn("leading failed, handing over", "term", m.term, "err", err)
		if err := p.TransferLeadership(ctx); err != nil {
			p.cfg.Log.Debug("leadership not handed over", "term", m.term, "err", err)
		}
		rest(ctx, pause)
	}
	cancel(nil)
	beside.Wait()
}

// lead runs all the leader's work of one term. It returns when ctx ends or any of it fails.
func (p *Peer) lead(ctx context.Context, m mandate) error {
	// Before the barrier the store may lack what earlier terms committed.
	err := p.await(ctx, func(r *raft.Raft) raft.Future { return r.Barrier(p.cfg.Timing.Call) })
	if err != nil {
		if errors.Is(err, raft.ErrNotLeader) || errors.Is(err, raft.ErrLeadershipLost) || errors.Is(err, ErrNotMaster) {
			return errOver
		}
		return fmt.Errorf("barrier: %w", err)
	}
	if r := p.raft.Load(); r.State() != raft.Leader || r.CurrentTerm() != m.term {
		return errOver
	}
	p.term.Store(m.term)
	defer func() {
		p.term.Store(0)
		p.changed.fire()
	}()
	if m.isOver() {
		return errOver
	}
	p.changed.fire()
	p.cfg.Log.Info("elected", "term", m.term)
	g, ctx := errgroup.WithContext(ctx)
	if p.cfg.Lead != nil {
		g.Go(func() error {
			err := p.cfg.Lead(ctx, m.term)
			if err == nil && ctx.Err() == nil {
				err = errors.New("lead returned before its term ended")
			}
			return err
		})
	}
	g.Go(func() error { return p.untilStalled(ctx) })
	g.Go(func() error { return p.tellCommits(ctx) })
	g.Go(func() error { return p.keepVoters(ctx) })
	g.Go(func() error { return p.keepHistory(ctx, m.term) })
	return g.Wait()
}

// rest waits a while, or until ctx ends.
func rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
