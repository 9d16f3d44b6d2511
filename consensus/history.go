package consensus

import (
	"context"

	"shoal/consensus/store"
)

// keepHistory makes all stores forget the older half of their history whenever this one's is full. It sleeps until the
// revision at which that happens.
func (p *Peer) keepHistory(ctx context.Context, term uint64) error {
	limit := store.Rev(p.cfg.HistoryMax)
	for {
		full := p.store.OldestRev() + limit
		if err := p.store.WaitRev(ctx, full); err != nil {
			return nil
		}
		_, err := p.Propose(ctx, store.Txn{Term: term, Compact: p.store.Rev() - limit/2})
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			p.cfg.Log.Debug("history not compacted", "term", term, "err", err)
			rest(ctx, tryAgain)
		}
	}
}
