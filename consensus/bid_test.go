package consensus

import (
	"sync/atomic"
	"testing"
	"time"
)

// slow makes Raft so patient that only an early election can be what a test sees.
var slow = Timing{Heartbeat: time.Hour, Lease: 30 * time.Minute, Ill: 13 * time.Minute, Call: time.Second}

func TestAnIllMasterIsReplacedBeforeItsLeaseEnds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 3, func(cfg *Config) { cfg.Timing = slow })
		first := c.master()
		c.isolate(first.cfg.ID)
		rest(t.Context(), time.Second) // less than Master and followers are silent for in good times
		if n := len(c.masters()); n != 1 {
			t.Fatalf("%d masters before anybody calls the first ill", n)
		}
		c.setHealth(first.cfg.ID, Health{})
		rest(t.Context(), 3*stagger)
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

// TestWhoHasMoreIsElectedEarly: the last write before the Master's machine died reached the last in line alone.
func TestWhoHasMoreIsElectedEarly(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 3, func(cfg *Config) { cfg.Timing = slow })
		if m := c.master().cfg.ID; m != "p1" {
			t.Fatalf("%s is Master", m)
		}
		c.isolate("p2")
		rev := c.put("a", "1")
		c.isolate("p1")
		c.setHealth("p1", Health{})
		rest(t.Context(), 5*stagger)
		if m := c.masters(); len(m) != 2 || m[1] != "p3" {
			t.Errorf("masters are %v; want the old one and p3, which has revision %d", m, rev)
		}
		c.heal()
		c.same()
	})
}

func TestOfTwoThatWouldStandOneDoes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var first, second bids
		if !first.begin() || !second.begin() {
			t.Fatal("may not ask")
		}
		yes, no := second.yield(true), first.yield(false)
		if stands := first.end(yes); !yes || no || !stands {
			t.Errorf("the first has the consent: %v, the second: %v; the first stands: %v", yes, no, stands)
		}
		if second.end(no) || second.begin() {
			t.Error("the second stands beside the first")
		}
		if first.yield(true) {
			t.Error("the first gives its consent and stands")
		}
		rest(t.Context(), hearsay)
		if !second.begin() || !second.end(first.yield(false)) {
			t.Error("the second cannot stand later, though the first failed")
		}
	})
}

// TestWhoHasYieldedDoesNotStand: both had a majority's consent, one that of the other.
func TestWhoHasYieldedDoesNotStand(t *testing.T) {
	bubble(t, func(*testing.T) {
		var b bids
		b.begin()
		b.yield(true)
		if b.end(true) {
			t.Error("it stands")
		}
	})
}
