package gossip_test

import (
	"fmt"
	"slices"
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

// TestPowerIsMissedSoon switches machines off at many moments, with the usual settings, which count, and with others, for comparison. When the
// next probe comes is chance.
func TestPowerIsMissedSoon(t *testing.T) {
	for _, s := range []struct{ interval, timeout, host time.Duration }{
		{500 * time.Millisecond, 150 * time.Millisecond, 200 * time.Millisecond},
		{250 * time.Millisecond, 150 * time.Millisecond, 200 * time.Millisecond},
		{time.Second, 150 * time.Millisecond, 200 * time.Millisecond},
		{500 * time.Millisecond, 200 * time.Millisecond, 250 * time.Millisecond},
		{500 * time.Millisecond, 100 * time.Millisecond, 100 * time.Millisecond},
	} {
		const runs = 100
		var all []time.Duration
		for i := range runs {
			inBubble(t, func(t *testing.T, c *cluster) {
				names := c.startWith(3, func(cfg *gossip.Config) {
					asUsual(cfg)
					cfg.Timings.ProbeInterval, cfg.Timings.ProbeTimeout, cfg.Timings.HostTimeout = s.interval, s.timeout, s.host
				})
				c.pass(time.Duration(i) * 17 * time.Millisecond) // to another moment between two probes
				c.destroy(names[i%3])
				start := time.Now()
				c.waitAll(with(states(gossip.Alive, names...), names[i%3], gossip.Gone), 10*time.Second)
				all = append(all, time.Since(start))
			})
		}
		slices.Sort(all)
		t.Logf("FIGURES probes every %v, %v to answer, looks of %v: median %v, worst %v", s.interval, s.timeout, s.host, all[runs/2], all[runs-1])
		if usual := config.Default().Gossip; s.interval == usual.ProbeInterval && s.host == usual.HostTimeout &&
			(all[runs/2] > time.Second || all[runs-1] > 2200*time.Millisecond) {
			t.Errorf("median %v, worst %v", all[runs/2], all[runs-1])
		}
	}
}

// TestLossIsNoDeath lets an hour pass on a network that loses packets. At 2 % nobody must notice; how much is too much is printed.
func TestLossIsNoDeath(t *testing.T) {
	for _, tc := range []struct{ peers, percent int }{{2, 2}, {3, 2}, {5, 2}, {3, 10}, {3, 20}} {
		t.Run(fmt.Sprintf("%d peers, %d %%", tc.peers, tc.percent), func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *cluster) {
				names := c.startAsUsual(tc.peers)
				c.net.Lose(float64(tc.percent)/100, 1)
				seen := c.history(names[0], names[1])
				c.pass(time.Hour)
				counts := map[gossip.State]int{}
				for _, s := range seen()[1:] {
					counts[s]++
				}
				t.Logf("FIGURES in an hour one peer sees another %v", counts)
				if tc.percent <= 2 && len(counts) > 0 {
					t.Errorf("at %d %% loss one saw another %v", tc.percent, counts)
				}
			})
		})
	}
}
