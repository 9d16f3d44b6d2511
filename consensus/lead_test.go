package consensus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

// office records who leads when, and fails the test if a term begins before everything earlier is in its store.
type office struct {
	mu    sync.Mutex
	terms []string
	now   map[PeerID]uint64
	fail  chan error // what Lead returns early
}

func (o *office) lead(id PeerID) func(context.Context, uint64) error {
	return func(ctx context.Context, term uint64) error {
		o.mu.Lock()
		if o.now[id] != 0 {
			panic("two terms at once at one peer")
		}
		o.now[id] = term
		o.terms = append(o.terms, fmt.Sprintf("%s:%d", id, term))
		o.mu.Unlock()
		defer func() {
			o.mu.Lock()
			o.now[id] = 0
			o.mu.Unlock()
		}()
		select {
		case <-ctx.Done():
			return nil
		case err := <-o.fail:
			return err
		}
	}
}

func (o *office) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.terms)
}

func newOffice(cfgs *func(*Config)) *office {
	o := &office{now: map[PeerID]uint64{}, fail: make(chan error)}
	*cfgs = func(c *Config) { c.Lead = o.lead(c.ID) }
	return o
}

func TestATermEndsWithLeadershipAndTheNextBeginsElsewhere(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var cfg func(*Config)
		o := newOffice(&cfg)
		c := newCluster(t, 3, cfg)
		first := c.master()
		c.isolate(first.cfg.ID)
		var second *running
		c.until("another master", func() bool {
			for _, p := range c.all() {
				if p != first && p.Status().Role == RoleMaster {
					second = p
				}
			}
			return second != nil && first.Status().Role != RoleMaster
		})
		rest(t.Context(), time.Second)
		o.mu.Lock()
		if o.now[first.cfg.ID] != 0 || o.now[second.cfg.ID] != second.Term() {
			t.Errorf("%v lead now, want only %s of term %d", o.now, second.cfg.ID, second.Term())
		}
		o.mu.Unlock()
		c.heal()
		c.same()
	})
}

func TestAFailingLeadHandsLeadershipOver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var cfg func(*Config)
		o := newOffice(&cfg)
		c := newCluster(t, 3, cfg)
		first := c.master()
		o.fail <- errors.New("a part of the master died")
		c.until("another master", func() bool {
			id, ok := c.peer("p1").Leader()
			return ok && id != first.cfg.ID
		})
		c.same()
	})
}

func TestAFailingLeadWithNobodyElseIsTriedAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var cfg func(*Config)
		o := newOffice(&cfg)
		c := newCluster(t, 1, cfg)
		c.master()
		for range 3 {
			o.fail <- errors.New("a part of the master died")
		}
		c.master()
		c.put("a", "1")
		if n := o.count(); n < 3 {
			t.Errorf("led %d times", n)
		}
	})
}

func TestAStaleTermsWriteIsRefusedEvenAfterReelection(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 2, nil)
		txn := putTxn("a", "old")
		txn.Term = c.master().Term()
		for range 2 { // away and back
			c.retry(func(ctx context.Context) error { return c.master().TransferLeadership(ctx) })
			c.put("turn", fmt.Sprint(c.master().Term()))
		}
		if _, err := c.master().Propose(t.Context(), txn); !errors.Is(err, ErrNotMaster) {
			t.Errorf("propose of term %d in term %d: %v", txn.Term, c.master().Term(), err)
		}
		if got := c.get(c.master(), "a"); got != "" {
			t.Errorf("a is %q", got)
		}
	})
}

func TestTheStoreIsUpToDateWhenATermBegins(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var mu sync.Mutex
		acked := uint64(0)
		var c *cluster
		c = newCluster(t, 3, func(cfg *Config) {
			id := cfg.ID
			cfg.Lead = func(ctx context.Context, term uint64) error {
				mu.Lock()
				least := acked
				mu.Unlock()
				if least > 0 { // so c is complete
					if rev := c.peer(id).Store().Rev(); uint64(rev) < least {
						t.Errorf("term %d begins at %d, %d was acknowledged", term, rev, least)
					}
				}
				<-ctx.Done()
				return nil
			}
		})
		for i := range 10 {
			for j := range 20 {
				rev := c.put("a", fmt.Sprint(i, j))
				mu.Lock()
				acked = uint64(rev)
				mu.Unlock()
			}
			c.retry(func(ctx context.Context) error { return c.master().TransferLeadership(ctx) })
		}
		c.same()
	})
}

func TestAGracefulStopHandsLeadershipOver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 3, func(cfg *Config) { cfg.Timing.Heartbeat = 10 * time.Second })
		old := c.master()
		began := time.Now()
		c.stop(old.cfg.ID)
		c.master()
		if took := time.Since(began); took > time.Second {
			t.Errorf("a new master after %s: by timeout, not by transfer", took)
		}
		if _, err := old.Propose(t.Context(), putTxn("a", "1")); !errors.Is(err, ErrNotMaster) {
			t.Errorf("propose at a stopped peer: %v", err)
		}
	})
}
