package consensus

import (
	"context"
	"testing"
	"time"
)

// TestWhatNobodyElseHasIsNotApplied: the old Master comes back with an entry that only it has, to a new one whose disk was slow at the
// beginning of its term.
func TestWhatNobodyElseHasIsNotApplied(t *testing.T) {
	bubble(t, func(t *testing.T) {
		disks := hungDisks{}
		c := newCluster(t, 3, func(cfg *Config) {
			disks.use(cfg)
			cfg.Timing.Commit = 5 * time.Millisecond // more tries, and so longer pauses between them
		})
		c.put("a", "1")
		old := c.master()
		c.isolate(old.cfg.ID)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := old.Propose(ctx, putTxn("a", "lost")); err == nil {
			t.Fatal("a write was acknowledged by one of three")
		}
		var mend []func()
		for _, p := range c.all() {
			if p != old {
				mend = append(mend, disks[p.cfg.ID].hang())
			}
		}
		rest(t.Context(), 2*time.Second) // the new Master tries in vain to reach the old one, ever less often
		for _, m := range mend {
			m()
		}
		c.until("another master", func() bool { return len(c.masters()) == 1 && c.masters()[0] != old.cfg.ID })
		c.put("b", "2")
		c.heal()
		c.same()
		if got := c.get(old, "a"); got != "1" {
			t.Errorf("a is %q", got)
		}
	})
}
