package consensus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"shoal/consensus/store"
)

// TestHistoriesAreLinearizable has clients put, read, compare and swap through random peers while links are cut, disks hang and
// peers are killed, and looks for an order of all that happened in which a single register a key would have answered the same.
// CHAOS_TIME makes it go on for so long, from the seed CHAOS_SEED on.
func TestHistoriesAreLinearizable(t *testing.T) {
	first, err := strconv.ParseInt(cmp.Or(os.Getenv("CHAOS_SEED"), "0"), 10, 64)
	if err != nil {
		t.Fatal("CHAOS_SEED: ", err)
	}
	span, err := time.ParseDuration(cmp.Or(os.Getenv("CHAOS_TIME"), "0"))
	if err != nil {
		t.Fatal("CHAOS_TIME: ", err)
	}
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
	// The judge's clock is the real one.
	if got := porcupine.CheckOperationsTimeout(registers, h.ops, time.Minute); got != porcupine.Ok {
		t.Errorf("a history of %d calls: %s", len(h.ops), got)
	}
	t.Logf("%d calls, %d with an outcome that nobody knows", len(h.ops), h.unknown)
	if len(h.ops) < 30 {
		t.Error("too few calls to show anything")
	}
}

// asked is one call on a register. Each value is written only once.
type asked struct {
	key  string
	what string // put, read, swap
	old  string // swap: what must be there; empty for nothing
	put  string // put, swap: what is there afterwards
}

type answered struct {
	unknown bool
	swapped bool
	read    string
}

// registers is what a store that is alone in the world would do.
var registers = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byKey := map[string][]porcupine.Operation{}
		for _, op := range history {
			key := op.Input.(asked).key
			byKey[key] = append(byKey[key], op)
		}
		var all [][]porcupine.Operation
		for _, ops := range byKey {
			all = append(all, ops)
		}
		return all
	},
	Init: func() any { return "" },
	Step: func(state, in, out any) (bool, any) {
		now, a, b := state.(string), in.(asked), out.(answered)
		switch {
		case a.what == "put":
			return true, a.put
		case a.what == "read":
			return b.read == now, now
		case a.old == now:
			return b.unknown || b.swapped, a.put
		default:
			return b.unknown || !b.swapped, now
		}
	},
}

// record is a history. Calls and returns are numbered in the order in which they were seen.
type record struct {
	seen atomic.Int64

	mu      sync.Mutex
	ops     []porcupine.Operation
	unknown int
}

func (h *record) add(client int, call int64, in asked, out answered) {
	h.mu.Lock()
	defer h.mu.Unlock()
	end := h.seen.Add(1)
	if out.unknown {
		end = math.MaxInt64 // it may still happen
		h.unknown++
	}
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: in, Call: call, Output: out, Return: end})
}

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
		in := asked{key: fmt.Sprint("k", rng.Intn(3)), what: []string{"put", "read", "swap"}[rng.Intn(3)], put: fmt.Sprintf("%d-%d", id, i)}
		var mod store.Rev
		if in.what == "swap" {
			kv, _, err := p.Store().Get(store.Key(in.key), 0)
			if err != nil {
				continue
			}
			in.old, mod = string(kv.Value), kv.Mod
		}
		call := h.seen.Add(1)
		one, cancel := context.WithTimeout(ctx, time.Second) // each outcome that nobody knows doubles the work of the judge
		out, happened := do(one, p, in, mod)
		cancel()
		if happened {
			h.add(id, call, in, out)
		}
	}
}

// do makes one call; false means that it had no effect and no answer.
func do(ctx context.Context, p *running, in asked, mod store.Rev) (answered, bool) {
	if in.what == "read" {
		if _, err := p.ReadIndex(ctx); err != nil {
			return answered{}, false
		}
		kv, _, err := p.Store().Get(store.Key(in.key), 0)
		return answered{read: string(kv.Value)}, err == nil
	}
	txn := putTxn(in.key, in.put)
	if in.what == "swap" {
		txn.Compares = []store.Compare{{Key: store.Key(in.key), Mod: mod}}
	}
	res, err := p.Propose(ctx, txn)
	switch {
	case err == nil:
		return answered{swapped: res.OK}, true
	case errors.Is(err, ErrUnknownOutcome):
		return answered{unknown: true}, true
	}
	return answered{}, false
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
