package gossip_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shoal/gossip"
	"shoal/internal/config"
)

// asUsual are the timings of a peer whose configuration does not say otherwise.
func asUsual(cfg *gossip.Config) {
	c := config.Default().Gossip
	cfg.Timings = gossip.Timings{
		ProbeInterval: c.ProbeInterval, ProbeTimeout: c.ProbeTimeout, Suspicion: c.Suspicion, HostTimeout: c.HostTimeout,
		GossipInterval: 4 * c.ProbeInterval,
	}
}

// startAsUsual starts peers and waits until they know each other.
func (c *cluster) startAsUsual(n int) (names []string) { return c.startWith(n, asUsual) }

func (c *cluster) startWith(n int, change func(*gossip.Config)) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("peer-%d", i))
		c.startAs(c.net.Add(names[i]), change)
	}
	c.waitAll(states(gossip.Alive, names...), 30*time.Second)
	c.pass(5 * time.Second)
	return names
}

func TestWhoIsDoubtedAndWellStaysAlive(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		names := c.startAsUsual(3)
		changed := c.peers["peer-0"].Changed()
		for range 10 {
			c.peers["peer-0"].Doubt("peer-1")
			c.peers["peer-2"].Doubt("peer-1")
			c.peers["peer-0"].Doubt("peer-0")
			c.peers["peer-0"].Doubt("nobody")
			c.pass(300 * time.Millisecond)
		}
		select {
		case <-changed:
			t.Error("something changed")
		default:
		}
		c.waitAll(states(gossip.Alive, names...), time.Second)
	})
}

// TestABrokenConnectionIsLookedInto: whoever had a connection to a process that died says so, and all know before the next probe.
func TestABrokenConnectionIsLookedInto(t *testing.T) {
	for _, n := range []int{2, 3, 7} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *cluster) {
				names := c.startAsUsual(n)
				m := c.peers[names[1]].machine
				c.kill(names[1])
				c.peers[names[0]].Doubt(names[1])
				all := states(gossip.Alive, names...)
				c.waitAll(with(all, names[1], gossip.Silent), 300*time.Millisecond)
				c.startAs(c.net.Replace(m), asUsual) // nobody has missed it yet but for the doubt
				c.waitAll(all, 1500*time.Millisecond)
				c.pass(5 * time.Second)
				c.waitAll(all, time.Millisecond)
			})
		})
	}
}

// TestAFrozenProcessIsNotHurried: it may only be slow, so its state is as memberlist finds, whoever doubts it.
func TestAFrozenProcessIsNotHurried(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		names := c.startAsUsual(3)
		c.peers["peer-1"].machine.Freeze()
		for range 3 {
			c.peers["peer-0"].Doubt("peer-1")
			c.pass(300 * time.Millisecond)
			if s := c.peers["peer-0"].State("peer-1"); s != gossip.Alive {
				t.Fatalf("%s after a freeze of less than a second", s)
			}
		}
		c.peers["peer-1"].machine.On()
		c.pass(5 * time.Second)
		c.waitAll(states(gossip.Alive, names...), time.Millisecond)
	})
}

// TestWhoAloneCannotReachItChangesNothing: only the way between two is broken.
func TestWhoAloneCannotReachItChangesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.startAsUsual(3)
		seen := c.history("peer-0", "peer-1")
		c.net.Cut(c.peers["peer-0"].machine, c.peers["peer-1"].machine)
		c.peers["peer-0"].Doubt("peer-1")
		c.pass(time.Minute)
		if diff := cmp.Diff([]gossip.State{gossip.Alive}, seen()); diff != "" {
			t.Errorf("it saw the other (-want +got):\n%s", diff)
		}
	})
}
