//go:build !race

package gossip_test

// These tests let much time pass. The race detector of Go 1.26 ends with an error of its own after so many goroutines.

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"shoal/gossip"
	"shoal/internal/config"
)

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
		const runs = 40
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
	for _, tc := range []struct{ peers, percent int }{{2, 2}, {3, 2}, {3, 20}} {
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

func TestWhoFallsOftenHasToStandForAWhile(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		names := c.startAsUsual(3)
		all := states(gossip.Alive, names...)
		unsteady := func() time.Duration {
			m, _ := c.peers["peer-0"].Member("peer-1")
			if m.Unsteady.IsZero() {
				return 0
			}
			return m.Unsteady.Sub(m.Since)
		}
		m := c.peers["peer-1"].machine
		for i, want := range []time.Duration{0, 30 * time.Second, time.Minute, 2 * time.Minute} {
			c.kill("peer-1")
			c.waitAll(with(all, "peer-1", gossip.Silent), 5*time.Second)
			if got := unsteady(); got != 0 {
				t.Errorf("after fall %d it is called unsteady, not away", i+1)
			}
			m = c.net.Replace(m)
			c.startAs(m, asUsual)
			c.waitAll(all, 5*time.Second)
			if got := unsteady(); got != want {
				t.Errorf("after fall %d it has to stand for %v, want %v", i+1, got, want)
			}
			c.pass(15 * time.Second)
		}
		changed := c.peers["peer-0"].Changed()
		c.pass(2 * time.Minute)
		select {
		case <-changed:
		default:
			t.Error("nobody is told that it is steady again")
		}
		if got := unsteady(); got != 0 {
			t.Errorf("it has to stand for another %v", got)
		}
		c.pass(10 * time.Minute)
		c.kill("peer-1")
		c.waitAll(with(all, "peer-1", gossip.Silent), 5*time.Second)
		c.startAs(c.net.Replace(m), asUsual)
		c.waitAll(all, 5*time.Second)
		if got := unsteady(); got != 0 {
			t.Errorf("what was ten minutes ago counts: %v", got)
		}
	})
}
