package consensus

import (
	"testing"
	"time"
)

// TestOnlyTheMasterMakesHeartbeatsRare: followers bear its silence no longer than before, and neither does it once it is one of them.
func TestOnlyTheMasterMakesHeartbeatsRare(t *testing.T) {
	bubble(t, func(t *testing.T) {
		timing := Timing{Heartbeat: 10 * time.Second, Beat: 3 * time.Second, Lease: 7 * time.Second, Commit: 10 * time.Second}
		c := newCluster(t, 3, func(cfg *Config) { cfg.Timing = timing })
		check := func() {
			t.Helper()
			for _, p := range c.all() {
				want := timing.Heartbeat
				if p.Status().Role == RoleMaster {
					want = beats * timing.Beat
				}
				if got := p.raft.Load().ReloadableConfig().HeartbeatTimeout; got != want {
					t.Errorf("%s, a %s, has Raft's patience set to %v, not %v", p.cfg.ID, p.Status().Role, got, want)
				}
			}
		}
		first := c.master()
		follower := c.peer(first.others()[0])
		rest(t.Context(), time.Minute)
		check()
		heard, last := 0, time.Time{}
		for range 600 {
			rest(t.Context(), 100*time.Millisecond)
			if at := follower.raft.Load().LastContact(); at != last {
				heard, last = heard+1, at
			}
		}
		if heard < 10 || heard > 27 {
			t.Errorf("%d messages in a minute, with 3 to 6 s between heartbeats, and 10 s and more between commits", heard)
		}
		c.retry(first.TransferLeadership)
		c.until("another Master", func() bool { return len(c.masters()) == 1 && c.masters()[0] != first.cfg.ID })
		rest(t.Context(), time.Minute)
		check()
	})
}
