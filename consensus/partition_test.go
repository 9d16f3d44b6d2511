package consensus

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"strconv"
	"sync"
	"testing"
	"time"

	"shoal/consensus/store"
)

// TestNoAcknowledgedWriteIsLost cuts the network at random while writers write and readers read at every peer.
func TestNoAcknowledgedWriteIsLost(t *testing.T) {
	for _, n := range []int{3, 5} {
		for seed := range int64(2) {
			t.Run(fmt.Sprintf("%d/%d", n, seed), func(t *testing.T) {
				bubble(t, func(t *testing.T) { partitions(t, n, rand.New(rand.NewSource(seed))) })
			})
		}
	}
}

// ledger is what was acknowledged: by key, the revision.
type ledger struct {
	mu    sync.Mutex
	acked map[string]store.Rev
	top   store.Rev // the newest acknowledged
}

func (l *ledger) newest() store.Rev {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.top
}

func partitions(t *testing.T, n int, rng *rand.Rand) {
	c := newCluster(t, n, nil)
	l := &ledger{acked: map[string]store.Rev{}}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, p := range c.all() {
		wg.Go(func() { writeAlways(ctx, t, p, l) })
		wg.Go(func() { readAlways(ctx, t, p, l) })
	}
	for range 12 {
		ids := rng.Perm(n)[:1+rng.Intn(n-1)]
		var in []PeerID
		for _, i := range ids {
			in = append(in, PeerID(fmt.Sprintf("p%d", i+1)))
		}
		c.isolate(in...)
		rest(ctx, time.Duration(rng.Intn(1500))*time.Millisecond)
		if rng.Intn(2) == 0 {
			c.heal()
			rest(ctx, time.Duration(rng.Intn(400))*time.Millisecond)
		}
	}
	cancel()
	wg.Wait()
	c.heal()
	c.same()
	for _, p := range c.all() {
		for key, rev := range l.acked {
			if kv, ok, err := p.Store().Get(store.Key(key), 0); err != nil || !ok || kv.Mod != rev {
				t.Fatalf("%s has %s at %d, %v, %v; acknowledged at %d", p.cfg.ID, key, kv.Mod, ok, err, rev)
			}
		}
	}
	if len(l.acked) < 100 {
		t.Errorf("only %d writes were acknowledged", len(l.acked))
	}
}

func writeAlways(ctx context.Context, t *testing.T, p *running, l *ledger) {
	for i := 0; ctx.Err() == nil; i++ {
		key := fmt.Sprintf("%s-%d", p.cfg.ID, i)
		one, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		res, err := p.Propose(one, putTxn(key, "x"))
		cancel()
		switch {
		case err == nil:
			l.mu.Lock()
			l.acked[key] = res.Revs[0]
			l.top = max(l.top, res.Rev)
			l.mu.Unlock()
			rest(ctx, 8*time.Millisecond)
		case errors.Is(err, ErrNotMaster), errors.Is(err, ErrUnknownOutcome):
			rest(ctx, 10*time.Millisecond)
		case ctx.Err() != nil: // the end came before it was sent
		default:
			t.Errorf("propose: %v", err)
			return
		}
	}
}

// readAlways checks that a read index is never older than what had been acknowledged before it was asked for.
func readAlways(ctx context.Context, t *testing.T, p *running, l *ledger) {
	for ctx.Err() == nil {
		least := l.newest()
		one, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		rev, err := p.ReadIndex(one)
		cancel()
		if err == nil && (rev < least || p.Store().Rev() < rev) {
			t.Errorf("%s: read index %d, store at %d, after %d was acknowledged", p.cfg.ID, rev, p.Store().Rev(), least)
			return
		}
		rest(ctx, 5*time.Millisecond)
	}
}

// TestAnIsolatedMasterGivesNoReadIndex keeps the old Master in office long after another was elected.
func TestAnIsolatedMasterGivesNoReadIndex(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 3, func(cfg *Config) {
			if cfg.ID == "p1" {
				cfg.Timing.Heartbeat = 20 * time.Second
			}
		})
		c.retry(func(ctx context.Context) error {
			if old := c.master(); old.cfg.ID != "p1" {
				return errors.Join(errors.New("not p1"), old.TransferLeadership(ctx))
			}
			return nil
		})
		old := c.peer("p1")
		c.put("a", "1")
		c.isolate("p1")
		var next *running
		c.until("another master", func() bool {
			for _, p := range c.all() {
				if p != old && p.Status().Role == RoleMaster {
					next = p
				}
			}
			return next != nil
		})
		if _, err := next.Propose(t.Context(), putTxn("a", "2")); err != nil {
			t.Fatal(err)
		}
		if old.Status().Role != RoleMaster {
			t.Fatal("the old master knows already, so this test shows nothing")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if rev, err := old.ReadIndex(ctx); !errors.Is(err, ErrNoMaster) {
			t.Errorf("read index %d, %v", rev, err)
		}
		one, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := old.Propose(one, putTxn("a", "3")); !errors.Is(err, ErrUnknownOutcome) {
			t.Errorf("propose: %v", err)
		}
		c.heal()
		if rev, err := old.ReadIndex(t.Context()); err != nil || c.get(old, "a") != "2" {
			t.Errorf("after healing: %d, %v, %q", rev, err, c.get(old, "a"))
		}
		c.same()
	})
}

// TestTransfersNeverGiveAFalseOK counts up by compare and swap while leadership moves: the count must lie between what
// was acknowledged and that plus what nobody knows.
func TestTransfersNeverGiveAFalseOK(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 3, nil)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		var mu sync.Mutex
		ok, conflict, unknown := 0, 0, 0
		for range 4 {
			wg.Go(func() {
				for ctx.Err() == nil {
					for _, p := range c.all() {
						res, err := increment(ctx, p)
						mu.Lock()
						switch {
						case err == nil && res.OK:
							ok++
						case err == nil:
							conflict++
						case errors.Is(err, ErrUnknownOutcome):
							unknown++
						case !errors.Is(err, ErrNotMaster) && !errors.Is(err, context.Canceled): // the end came before it was sent
							t.Errorf("propose: %v", err)
						}
						mu.Unlock()
					}
					rest(ctx, time.Millisecond)
				}
			})
		}
		for range 30 {
			_ = c.master().TransferLeadership(ctx)
			rest(ctx, 30*time.Millisecond)
		}
		cancel()
		wg.Wait()
		c.same()
		n, _ := strconv.Atoi(c.get(c.master(), "n"))
		t.Logf("count %d: %d ok, %d conflicts, %d unknown", n, ok, conflict, unknown)
		if n < ok || n > ok+unknown || ok < 50 {
			t.Errorf("count is %d after %d ok and %d unknown", n, ok, unknown)
		}
	})
}

func increment(ctx context.Context, p *running) (store.Result, error) {
	term := p.Term()
	kv, _, err := p.Store().Get("n", 0)
	if err != nil {
		return store.Result{}, err
	}
	n, _ := strconv.Atoi(string(kv.Value))
	txn := putTxn("n", strconv.Itoa(n+1))
	txn.Term = term
	txn.Compares = []store.Compare{{Key: "n", Mod: kv.Mod}}
	return p.Propose(ctx, txn)
}
