package consensus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestAClusterComesBackFromDisk(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 3, nil)
		for i := range 100 {
			c.put(fmt.Sprint("k", i%10), fmt.Sprint(i))
		}
		c.same()
		hash := c.master().Store().Hash()
		ids := []PeerID{"p1", "p2", "p3"}
		for _, id := range ids {
			c.stop(id)
		}
		for _, id := range ids {
			c.start(id, false)
		}
		c.voters(3)
		if got := c.master().Store().Hash(); got != hash {
			t.Errorf("another state came back, at %d", c.master().Store().Rev())
		}
		c.same()
	})
}

// TestAPeerAloneStillKnowsWhatItHadApplied is about starting without a quorum: what a node runs must not be forgotten.
func TestAPeerAloneStillKnowsWhatItHadApplied(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 3, nil)
		for i := range 3 * maxAppend {
			c.put(fmt.Sprint("k", i%10), fmt.Sprint(i))
		}
		c.same()
		rev := c.peer("p2").Store().Rev()
		for _, id := range []PeerID{"p1", "p2", "p3"} {
			c.stop(id)
		}
		p := c.start("p2", false)
		// The last entries may not have been known to be committed when they were written.
		if got := p.Store().Rev(); got+2 < rev || got > rev {
			t.Errorf("starts at revision %d after %d", got, rev)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := p.ReadIndex(ctx); !errors.Is(err, ErrNoMaster) {
			t.Errorf("read index without a quorum: %v", err)
		}
		c.start("p1", false)
		c.start("p3", false)
		c.same()
	})
}

func TestAPeerThatLagsTooFarGetsASnapshotAndItsWatchesGoOn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 3, func(cfg *Config) {
			cfg.Timing.SnapshotEvery, cfg.Timing.SnapshotLogs, cfg.Timing.TrailingLogs = 50*time.Millisecond, 20, 5
		})
		c.put("a", "1")
		c.same()
		lag := PeerID("p3")
		if c.master().cfg.ID == lag {
			lag = "p2"
		}
		p := c.peer(lag)
		from := p.Store().Rev()
		w := p.Store().Watch("", from)
		defer w.Close()
		c.isolate(lag)
		for i := range 300 {
			c.put("a", fmt.Sprint(i))
		}
		c.until("a snapshot", func() bool {
			rest(t.Context(), 10*time.Millisecond)
			return c.master().Status().LogLen < 50
		})
		c.heal()
		// The snapshot brings the changes before it.
		for at := from; at < from+300; {
			events, err := w.Next(t.Context())
			if err != nil {
				t.Fatalf("watch over a snapshot, after %d: %v", at, err)
			}
			for _, e := range events {
				if at++; e.Rev != at {
					t.Fatalf("%s at %d, want what comes at %d", e.Key, e.Rev, at)
				}
			}
		}
		c.same()
		for range 2 { // the snapshot is also what it starts from
			c.stop(lag)
			if p := c.start(lag, false); p.Store().Rev() < 300 {
				t.Errorf("starts at %d", p.Store().Rev())
			}
			c.same()
		}
	})
}

func TestAnUnknownCommandStopsThePeer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 1, nil)
		p := c.master()
		rev := c.put("a", "1")
		err := p.raft.Load().Apply([]byte{99, 1, 2}, 0).Error()
		if err != nil {
			t.Fatal(err)
		}
		err = <-p.done
		if !errors.Is(err, ErrVersion) || !strings.Contains(err.Error(), "99") {
			t.Errorf("run ends with %v", err)
		}
		p.done <- nil
		if p.Store().Rev() != rev {
			t.Error("the store went on")
		}
		c.stop("p1")
		again := New(p.cfg)
		if err := again.Run(t.Context()); !errors.Is(err, ErrVersion) {
			t.Errorf("a second start ends with %v", err)
		}
	})
}

func TestBootstrapOfADirectoryWithStateChangesNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 2, nil)
		c.put("a", "1")
		c.stop("p2")
		p := c.start("p2", true)
		c.same()
		if s := p.Status(); len(s.Voters) != 2 {
			t.Errorf("members are %v", s.Voters)
		}
	})
}

func TestHistoryIsBoundedOnEveryPeer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 3, func(cfg *Config) { cfg.HistoryMax = 100 })
		for i := range 1000 {
			c.put("a", fmt.Sprint(i))
		}
		c.same()
		for _, p := range c.all() {
			if n := p.Store().HistoryLen(); n < 40 || n > 110 {
				t.Errorf("%s remembers %d changes", p.cfg.ID, n)
			}
		}
	})
}

func TestAnIdleClusterWritesNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 3, nil)
		c.put("a", "1")
		c.same()
		rest(t.Context(), time.Second)
		before := c.master().Status()
		rest(t.Context(), time.Hour)
		if after := c.master().Status(); after.Last != before.Last || after.Term != before.Term {
			t.Errorf("an hour took the log from %d in term %d to %d in term %d", before.Last, before.Term, after.Last, after.Term)
		}
	})
}

// TestFollowersLearnOfACommitAtOnce is about the last write before a silence, which Raft lets wait.
func TestFollowersLearnOfACommitAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 3, func(cfg *Config) { cfg.Timing.Commit = 10 * time.Second })
		for i := range 20 {
			rev := c.put("a", fmt.Sprint(i))
			began := time.Now()
			for _, p := range c.all() {
				if err := p.Store().WaitRev(t.Context(), rev); err != nil {
					t.Fatal(err)
				}
			}
			if took := time.Since(began); took > 50*time.Millisecond {
				t.Errorf("write %d was seen everywhere after %s", i, took)
			}
			rest(t.Context(), 100*time.Millisecond)
		}
	})
}
