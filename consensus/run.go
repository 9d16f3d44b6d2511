package consensus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sync/errgroup"
)

// Run takes part in the cluster until ctx ends, then hands leadership over, and returns when everything it started has
// ended. An error means that the peer cannot go on. It may be called once.
func (p *Peer) Run(ctx context.Context) error {
	if !p.began.CompareAndSwap(false, true) {
		return errors.New("a consensus peer runs only once")
	}
	var w carrier = p.cfg.Transport
	if p.cfg.Transport == nil {
		w = newTransport(p.cfg, p.cfg.Stream)
	}
	p.trans = matched{w, ctx.Done()}
	notify := make(chan bool, 1)
	r, err := p.open(notify)
	if err != nil {
		return errors.Join(err, p.close())
	}
	// Raft's main loop waits for whoever reads notify, so that must outlive everything that Raft still has to do.
	terms, pumped, stop := make(chan mandate, 1), make(chan struct{}), make(chan struct{})
	p.raft.Store(r)
	go func() {
		defer close(pumped)
		p.pump(notify, terms, stop)
	}()
	seen := make(chan raft.Observation, 64)
	r.RegisterObserver(raft.NewObserver(seen, false, p.watchful))
	close(p.ready)
	p.changed.fire()

	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.serveTerms(gctx, terms) })
	g.Go(func() error { return p.confirms.run(gctx, p.Changed) })
	g.Go(func() error { return p.asks.run(gctx, p.Changed) })
	g.Go(func() error { return p.observe(gctx, seen) })
	g.Go(func() error { return p.hurry(gctx) })
	g.Go(func() error {
		select {
		case err := <-p.fatal:
			return err
		case <-gctx.Done():
			return nil
		}
	})
	err = g.Wait()
	err = errors.Join(err, p.leave(context.WithoutCancel(ctx), r))
	close(stop)
	<-pumped
	p.changed.fire()
	return errors.Join(err, p.close())
}

// leave hands leadership over and stops Raft: no new proposals; those on their way get their answers, as the next
// Master or nobody commits them; then the connections are cut, so that nothing waits for a silent peer.
func (p *Peer) leave(ctx context.Context, r *raft.Raft) error {
	idle := p.inflight.close()
	if r.State() == raft.Leader && len(p.others()) > 0 {
		if err := p.pass(ctx, r, handedOver(r)); err != nil {
			p.cfg.Log.Info("leadership not handed over", "err", err)
		}
	}
	late := time.NewTimer(p.cfg.Timing.Call)
	defer late.Stop()
	select {
	case <-idle:
	case <-late.C:
	case <-ctx.Done():
	}
	down := r.Shutdown()
	if err := p.trans.Close(); err != nil {
		p.cfg.Log.Debug("close transport", "err", err)
	}
	if err := down.Error(); err != nil {
		return fmt.Errorf("stop raft: %w", err)
	}
	return nil
}

func (p *Peer) close() error {
	_ = p.trans.Close()
	if p.logs == nil {
		return nil
	}
	if err := p.logs.disk.Close(); err != nil {
		return fmt.Errorf("close log: %w", err)
	}
	return nil
}
