package consensus

import (
	"errors"
	"fmt"
	"testing"

	"shoal/consensus/store"
)

// lose ends all peers at once, and returns how one was configured.
func (c *cluster) lose(survivor PeerID) Config {
	c.t.Helper()
	cfg := c.peer(survivor).cfg
	c.mu.Lock()
	for a := range c.peers {
		for b := range c.peers {
			c.cut[[2]PeerID{a, b}] = true
		}
	}
	c.wireLocked()
	c.mu.Unlock()
	for _, p := range c.all() {
		c.stop(p.cfg.ID)
	}
	c.heal()
	return cfg
}

// salvage opens what a stopped peer's directory holds.
func (c *cluster) salvage(cfg Config) *Salvage {
	c.t.Helper()
	s, err := OpenSalvage(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	return s
}

func TestASurvivorBecomesAClusterOfOne(t *testing.T) {
	for _, snapshots := range []bool{false, true} {
		t.Run(fmt.Sprint("snapshots ", snapshots), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := newCluster(t, 3, func(cfg *Config) {
					if snapshots {
						cfg.Timing.SnapshotEvery, cfg.Timing.SnapshotLogs, cfg.Timing.TrailingLogs = tryAgain, 20, 5
					}
				})
				for i := range 100 {
					c.put(fmt.Sprint("k", i%10), fmt.Sprint(i))
					if i == 50 {
						rest(t.Context(), 3*tryAgain) // for a snapshot
					}
				}
				c.same()
				last := c.master().Store().Rev()
				survivor := c.lose("p2")
				s := c.salvage(survivor)
				if s.Store.Rev() != last || s.Committed > last || s.Committed+3 < last || len(s.Voters) != 3 || s.Written.IsZero() {
					t.Errorf("holds revision %d of %d, %d committed, written %v, of voters %v", s.Store.Rev(), last, s.Committed, s.Written, s.Voters)
				}
				if err := errors.Join(s.Alone([]store.Op{{Key: "k3", Delete: true}}), s.Close()); err != nil {
					t.Fatal(err)
				}
				for range 2 { // it also starts again
					p := c.start(survivor.ID, false)
					c.voters(1)
					if got := c.put("after", fmt.Sprint(p.Store().Rev())); got <= last+beyond {
						t.Errorf("goes on at revision %d, before %d", got, last+beyond)
					}
					if kv, ok, err := p.Store().Get("k9", 0); err != nil || !ok || string(kv.Value) != "99" || kv.Mod > last {
						t.Errorf("has %q at %d, %v, %v", kv.Value, kv.Mod, ok, err)
					}
					if _, ok, err := p.Store().Get("k3", 0); ok || err != nil {
						t.Errorf("what was to be deleted is there: %v, %v", ok, err)
					}
					if _, _, err := p.Store().Get("k9", last); !errors.Is(err, store.ErrCompacted) {
						t.Errorf("a read at a revision of before: %v", err)
					}
					c.stop(survivor.ID)
				}
			})
		})
	}
}

// TestARecoveryWithoutItsLastStep is about a crash, or a full disk, after the snapshot.
func TestARecoveryWithoutItsLastStep(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 3, nil)
		for i := range 20 {
			c.put("a", fmt.Sprint(i))
		}
		c.same()
		survivor := c.lose("p2")
		full := survivor
		full.disk = func(dir string, log *logger) (disk, error) {
			d, err := openDisk(dir, log)
			return keepsAll{d}, err
		}
		s := c.salvage(full)
		if err := s.Alone(nil); !errors.Is(err, errKeeps) {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		p := c.start(survivor.ID, false)
		c.voters(1)
		c.put("a", "after")
		if kv, _, err := p.Store().Get("a", 0); err != nil || string(kv.Value) != "after" {
			t.Errorf("has %q, %v", kv.Value, err)
		}
	})
}

var errKeeps = errors.New("nothing is deleted here")

// keepsAll deletes nothing.
type keepsAll struct{ disk }

func (keepsAll) DeleteRange(_, _ uint64) error { return errKeeps }

func TestThereIsNothingToSalvage(t *testing.T) {
	for _, dir := range []string{t.TempDir(), "/nowhere"} {
		if _, err := OpenSalvage(Config{ID: "p1", Dir: dir}); !errors.Is(err, ErrNothing) {
			t.Errorf("%s: %v", dir, err)
		}
	}
}
