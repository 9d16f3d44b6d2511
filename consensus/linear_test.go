package consensus

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"sync"
	"testing"
	"time"

	"shoal/consensus/store"
	"shoal/internal/testcluster/linear"
)

// TestHistoriesAreLinearizable has clients put, read, compare and swap through random peers while links are cut, disks hang and
// peers are killed, and looks for an order of all that happened in which a single register a key would have answered the same.
// CHAOS_TIME makes it go on for so long, from the seed CHAOS_SEED on.
func TestHistoriesAreLinearizable(t *testing.T) {
	first, span := linear.Chaos(t, 0.2)
	began := time.Now()
	for seed := first; seed < first+3 || time.Since(began) < span; seed++ {
		for _, n := range []int{3, 5} {
			if !t.Run(fmt.Sprintf("%d/%d", n, seed), func(t *testing.T) { linearizable(t, n, seed) }) {
				return
			}
		}
	}
}

func linearizable(t *testing.T, n int, seed int64) {
	var h record
	bubble(t, func(t *testing.T) { h.make(t, n, seed) })
	h.Judge(t, 30) // its clock is the real one
}

// record is a history under way.
type record struct{ linear.History }

func (h *record) make(t *testing.T, n int, seed int64) {
	disks := hungDisks{}
	c := newCluster(t, n, func(cfg *Config) {
		disks.use(cfg)
		// A Master that is cut off stays in office long after another was elected; and Raft tries more often what fails.
		cfg.Timing = Timing{Heartbeat: time.Second, Lease: 900 * time.Millisecond, Ill: 250 * time.Millisecond, Call: 200 * time.Millisecond, Commit: 20 * time.Millisecond}
	})
	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	for i := range 5 {
		rng := rand.New(rand.NewSource(seed<<8 + int64(i)))
		clients.Go(func() { h.client(ctx, c, i, n, rng) })
	}
	hurt(ctx, c, disks, n, rand.New(rand.NewSource(seed)))
	cancel()
	clients.Wait()
	c.heal()
	c.same()
}

// client makes calls at random peers. What a peer surely did not do is no part of the history.
func (h *record) client(ctx context.Context, c *cluster, id, n int, rng *rand.Rand) {
	for i := 0; ctx.Err() == nil; i++ {
		rest(ctx, time.Duration(5+rng.Intn(60))*time.Millisecond)
		p := c.peer(PeerID(fmt.Sprintf("p%d", 1+rng.Intn(n))))
		if p == nil {
			continue
		}
		in := linear.Call{Key: fmt.Sprint("k", rng.Intn(3)), What: []string{linear.Put, linear.Read, linear.Swap}[rng.Intn(3)], New: fmt.Sprintf("%d-%d", id, i)}
		var mod store.Rev
		if in.What == linear.Swap {
			kv, _, err := p.Store().Get(store.Key(in.Key), 0)
			if err != nil {
				continue
			}
			in.Old, mod = string(kv.Value), kv.Mod
		}
		call := h.Begin()
		one, cancel := context.WithTimeout(ctx, time.Second) // each outcome that nobody knows doubles the work of the judge
		out, happened := do(one, p, in, mod)
		cancel()
		if happened {
			h.End(id, call, in, out)
		}
	}
}

// do makes one call; false means that it had no effect and no answer.
func do(ctx context.Context, p *running, in linear.Call, mod store.Rev) (linear.Answer, bool) {
	if in.What == linear.Read {
		if _, err := p.ReadIndex(ctx); err != nil {
			return linear.Answer{}, false
		}
		kv, _, err := p.Store().Get(store.Key(in.Key), 0)
		return linear.Answer{Read: string(kv.Value)}, err == nil
	}
	txn := putTxn(in.Key, in.New)
	if in.What == linear.Swap {
		txn.Compares = []store.Compare{{Key: store.Key(in.Key), Mod: mod}}
	}
	res, err := p.Propose(ctx, txn)
	switch {
	case err == nil:
		return linear.Answer{Swapped: res.OK}, true
	case errors.Is(err, ErrUnknownOutcome):
		return linear.Answer{Unknown: true}, true
	}
	return linear.Answer{}, false
}

// hurt does one bad thing after the other.
func hurt(ctx context.Context, c *cluster, disks hungDisks, n int, rng *rand.Rand) {
	one := func() PeerID { return PeerID(fmt.Sprintf("p%d", 1+rng.Intn(n))) }
	pause := func(most time.Duration) { rest(ctx, time.Duration(rng.Int63n(int64(most)))) }
	for range 12 {
		switch rng.Intn(5) {
		case 0: // some cannot talk to the others
			var in []PeerID
			for _, i := range rng.Perm(n)[:1+rng.Intn(n-1)] {
				in = append(in, PeerID(fmt.Sprintf("p%d", i+1)))
			}
			c.isolate(in...)
			known := rng.Intn(4) > 0
			for _, id := range in {
				c.setHealth(id, Health{Alive: !known})
			}
			pause(1500 * time.Millisecond)
			for _, id := range in {
				c.setHealth(id, Health{Alive: true})
			}
		case 1: // two cannot talk to each other, or one of them not to the other
			a, b := one(), one()
			c.mu.Lock()
			c.cut[[2]PeerID{a, b}] = true
			c.cut[[2]PeerID{b, a}] = rng.Intn(2) == 0
			c.wireLocked()
			c.mu.Unlock()
			pause(1500 * time.Millisecond)
		case 2: // a disk hangs
			mend := disks[one()].hang()
			pause(2 * stallAfter)
			mend()
		case 3: // one is killed and comes back
			id := one()
			c.kill(id)
			pause(time.Second)
			c.start(id, false)
		case 4: // one is called ill for no reason
			id := one()
			c.setHealth(id, Health{})
			pause(time.Second)
			c.setHealth(id, Health{Alive: true})
		}
		if rng.Intn(2) == 0 {
			c.heal()
			pause(400 * time.Millisecond)
		}
	}
}
