package consensus

import (
	"fmt"
	"testing"
	"time"
)

func TestOnePeerIsACluster(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 1, nil)
		c.put("a", "1")
		if rev, err := c.peer("p1").ReadIndex(t.Context()); err != nil || rev != 1 {
			t.Fatalf("read index %d, %v", rev, err)
		}
		c.stop("p1")
		c.start("p1", true)
		if got := c.get(c.master(), "a"); got != "1" {
			t.Errorf("after a restart a is %q", got)
		}
		c.same()
	})
}

func TestTheOnlyVoterIsMasterAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const hour = time.Hour // nobody's silence is ever that long here
		c := newCluster(t, 1, func(cfg *Config) { cfg.Timing.Heartbeat, cfg.Timing.Election = hour, hour })
		c.put("a", "1")
		c.stop("p1")
		began := time.Now()
		c.start("p1", false)
		c.put("a", "2")
		if took := time.Since(began); took > time.Minute {
			t.Errorf("mastered after %v", took)
		}
	})
}

func TestEveryPeerHasEveryWrite(t *testing.T) {
	for _, n := range []int{2, 3, 5} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := newCluster(t, n, nil)
				for i := range 50 {
					key := fmt.Sprint("k", i%7)
					c.put(key, fmt.Sprint(i))
					for _, p := range c.all() {
						if _, err := p.ReadIndex(t.Context()); err != nil {
							t.Fatal(err)
						}
						if got := c.get(p, key); got != fmt.Sprint(i) {
							t.Fatalf("%s reads %q after %d", p.cfg.ID, got, i)
						}
					}
				}
				c.same()
			})
		})
	}
}

// A peer that was restarted holds a log of which nobody told it yet how much is committed; and when nothing is written, nobody would for long.
func TestAPeerThatIsBackReadsAtOnceWhenNothingIsWritten(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 3, func(cfg *Config) { cfg.Timing.Commit = 10 * time.Second })
		c.voters(3)
		rev := c.put("a", "1")
		for _, p := range c.all() {
			id := p.cfg.ID
			if id == c.master().cfg.ID {
				continue
			}
			rest(t.Context(), time.Second)
			c.stop(id)
			rest(t.Context(), time.Second)
			began := time.Now()
			c.start(id, false)
			got, err := c.peer(id).ReadIndex(t.Context())
			if took := time.Since(began); err != nil || got < rev || took > time.Second {
				t.Errorf("%s: revision %d after %v, %v; it has to hold %d", id, got, took, err, rev)
			}
		}
	})
}

// Heartbeats are rare. A peer that is back hears at once who leads.
func TestAPeerThatIsBackHearsAtOnceWhoLeads(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 3, func(cfg *Config) {
			cfg.Timing = Timing{Heartbeat: time.Minute, Lease: 30 * time.Second, Ill: 10 * time.Second, Call: time.Second, Commit: 10 * time.Second}
		})
		c.voters(3)
		c.put("a", "1")
		for _, p := range c.all() {
			id := p.cfg.ID
			if id == c.master().cfg.ID {
				continue
			}
			c.kill(id)
			rest(t.Context(), time.Second)
			began := time.Now()
			c.heal()
			p := c.start(id, false)
			c.setHealth(id, Health{Alive: true})
			for changed := p.Changed(); ; changed = p.Changed() {
				if _, ok := p.Leader(); ok {
					break
				}
				select {
				case <-changed:
				case <-time.After(time.Minute):
				}
			}
			if took := time.Since(began); took > time.Second {
				t.Errorf("%s knew who leads after %v", id, took)
			}
		}
	})
}
