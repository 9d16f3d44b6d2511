package consensus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

func TestADeadVoterIsReplacedByAReplica(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 4, nil)
		c.put("a", "1")
		m := c.master()
		var replica PeerID
		c.until("one replica", func() bool {
			s := m.Status()
			if len(s.Replicas) == 1 {
				replica = s.Replicas[0]
			}
			return replica != ""
		})
		var victim PeerID
		for _, id := range m.Status().Voters {
			if id != m.cfg.ID {
				victim = id
			}
		}
		c.kill(victim)
		c.until("the replica votes in its place", func() bool {
			s := c.master().Status()
			return len(s.Voters) == 3 && slices.Contains(s.Voters, replica) && slices.Contains(s.Replicas, victim)
		})
		c.put("a", "2")
		// A second one may now die, and the first comes back as a replica and then gets a vote again.
		c.heal()
		c.start(victim, false)
		c.same()
		c.kill(replica)
		c.until("the first victim votes again", func() bool {
			s := c.master().Status()
			return len(s.Voters) == 3 && slices.Contains(s.Voters, victim)
		})
		c.same()
	})
}

func TestTheMastersOwnDeathIsReplacedToo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 5, nil)
		for i := range 2 {
			c.put("a", fmt.Sprint(i))
			c.kill(c.master().cfg.ID)
			c.put("a", fmt.Sprint("after", i))
		}
		c.same()
	})
}

func TestMembersComeAndGo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 5, nil)
		for _, id := range []PeerID{"p5", "p4", "p3"} {
			c.stop(id)
			c.setHealth(id, Health{})
			c.retry(func(ctx context.Context) error { return c.master().RemovePeer(ctx, id) })
			c.put("gone", string(id))
		}
		c.voters(2)
		c.same()
		m := c.master()
		if err := m.RemovePeer(t.Context(), m.cfg.ID); !errors.Is(err, ErrNotMaster) {
			t.Errorf("the master removed itself: %v", err)
		}
		for _, p := range c.all() {
			if p != c.master() {
				if err := p.AddPeer(t.Context(), "p9"); !errors.Is(err, ErrNotMaster) {
					t.Errorf("add at another: %v", err)
				}
			}
		}
		c.add("p1")
		if s := c.master().Status(); len(s.Voters) != 2 || len(s.Replicas) != 0 {
			t.Errorf("adding a member again left %v and %v", s.Voters, s.Replicas)
		}
	})
}

func TestVotersSpreadOverZones(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 4, nil)
		m := c.master().cfg.ID
		zone := map[PeerID]string{m: "x"}
		s := c.master().Status()
		for _, id := range s.Voters {
			if id != m {
				zone[id] = "y"
			}
		}
		zone[s.Replicas[0]] = "z"
		for id, z := range zone {
			c.setHealth(id, Health{Alive: true, Zone: z})
		}
		c.until("a voter in z", func() bool {
			now := c.master().Status()
			return len(now.Voters) == 3 && slices.Contains(now.Voters, s.Replicas[0])
		})
		c.same()
	})
}

// TestAwaitVoter: a member that will vote is waited for, one that has no need to vote is not, nor is a stranger.
func TestAwaitVoter(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 2, nil)
		c.start("p3", false)
		c.add("p3")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if !c.master().AwaitVoter(ctx, "p3") {
			t.Errorf("the third member of three does not vote: %+v", c.master().Status())
		}
		c.start("p4", false)
		c.add("p4")
		c.until("three of four vote", func() bool { s := c.master().Status(); return len(s.Voters) == 3 && len(s.Replicas) == 1 })
		begun := time.Now()
		for _, id := range []PeerID{c.master().Status().Replicas[0], "stranger"} {
			if c.master().AwaitVoter(ctx, id) {
				t.Errorf("%s votes", id)
			}
		}
		if waited := time.Since(begun); waited > 0 {
			t.Errorf("waited %v for nothing", waited)
		}
	})
}

// TestFiveDieOneAfterTheOtherUntilTwoAreLeft: each loss is repaired before the next one, though nobody is there to replace the dead.
func TestFiveDieOneAfterTheOtherUntilTwoAreLeft(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 5, nil)
		c.put("a", "0")
		var dead []PeerID
		for living := 4; living >= 2; living-- {
			victim := c.master().cfg.ID // the hardest one
			c.kill(victim)
			dead = append(dead, victim)
			began := time.Now()
			c.until("as many vote as should", func() bool {
				m := c.master()
				if m == nil {
					return false
				}
				s := m.Status()
				return len(s.Voters) == 3 && (living == 2 || !slices.ContainsFunc(dead, func(id PeerID) bool { return slices.Contains(s.Voters, id) }))
			})
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("with %d left the repair took %v", living, took)
			}
			c.put("a", fmt.Sprint(living))
		}
		c.heal()
		for _, id := range dead {
			c.start(id, false)
		}
		c.voters(5)
		c.put("a", "5")
		c.same()
	})
}
