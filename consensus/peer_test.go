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
