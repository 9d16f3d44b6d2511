package consensus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
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

func TestAnIllMasterIsReplacedBeforeItsLeaseEnds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		slow := Timing{Heartbeat: time.Hour, Lease: 30 * time.Minute, Ill: 13 * time.Minute, Call: time.Second}
		c := newCluster(t, 3, func(cfg *Config) { cfg.Timing = slow })
		first := c.master()
		c.isolate(first.cfg.ID)
		rest(t.Context(), 5*time.Minute)
		if n := len(c.masters()); n != 1 {
			t.Fatalf("%d masters before anybody calls the first ill", n)
		}
		c.setHealth(first.cfg.ID, Health{})
		rest(t.Context(), slow.Ill+2*stagger)
		if m := c.masters(); len(m) != 2 {
			t.Errorf("masters are %v; want the first, whose lease is not over, and another", m)
		}
		c.heal()
		rest(t.Context(), slow.Heartbeat/5)
		if m := c.masters(); len(m) != 1 || m[0] == first.cfg.ID {
			t.Errorf("masters are %v after they could talk again", m)
		}
		c.same()
	})
}

// TestWhoCannotReachTheMasterDisturbsNobody: a follower believes that the Master is ill, because it is cut off itself or because
// only the two of them cannot talk. Its return must not end the term.
func TestWhoCannotReachTheMasterDisturbsNobody(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var confused atomic.Bool
		slow := Timing{Heartbeat: time.Hour, Lease: 30 * time.Minute, Ill: 13 * time.Minute, Call: time.Second}
		c := newCluster(t, 3, func(cfg *Config) {
			cfg.Timing = slow
			everybody := cfg.Health
			if cfg.ID == "p3" {
				cfg.Health = func() map[PeerID]Health {
					all := everybody()
					if confused.Load() {
						all["p1"] = Health{}
					}
					return all
				}
			}
		})
		first := c.master()
		if first.cfg.ID != "p1" {
			t.Fatalf("%s is Master", first.cfg.ID)
		}
		term := first.Term()
		for _, cut := range []func(){
			func() { c.isolate("p3") },
			func() {
				c.mu.Lock()
				defer c.mu.Unlock()
				c.cut[[2]PeerID{"p1", "p3"}], c.cut[[2]PeerID{"p3", "p1"}] = true, true
				c.wireLocked()
			},
		} {
			cut()
			confused.Store(true)
			c.ill.fire()
			rest(t.Context(), slow.Ill*3/2) // time enough to stand, and none to lose patience
			c.heal()
			confused.Store(false)
			c.ill.fire()
			rest(t.Context(), slow.Heartbeat)
			if m := c.masters(); len(m) != 1 || m[0] != first.cfg.ID || first.Term() != term {
				t.Fatalf("masters are %v, in term %d; want %s in %d", m, first.Term(), first.cfg.ID, term)
			}
		}
		c.same()
	})
}

func TestAMasterThatIsOnlyCalledIllStays(t *testing.T) {
	bubble(t, func(t *testing.T) {
		slow := Timing{Heartbeat: time.Hour, Lease: 30 * time.Minute, Ill: 13 * time.Minute, Call: time.Second}
		c := newCluster(t, 3, func(cfg *Config) { cfg.Timing = slow })
		first := c.master()
		term := first.Term()
		c.setHealth(first.cfg.ID, Health{})
		rest(t.Context(), 10*slow.Heartbeat)
		if first.Status().Role != RoleMaster || first.Term() != term {
			t.Errorf("%s is %s in term %d, though everybody hears of it; was master in %d", first.cfg.ID, first.Status().Role, first.Term(), term)
		}
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
