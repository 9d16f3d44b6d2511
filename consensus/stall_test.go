package consensus

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/raft"
)

// hung is a disk that may hang.
type hung struct {
	disk
	until atomic.Pointer[chan struct{}] // nil while it works
}

func (h *hung) hang() (mend func()) {
	until := make(chan struct{})
	h.until.Store(&until)
	return func() {
		h.until.Store(nil)
		close(until)
	}
}

func (h *hung) StoreLogs(ls []*raft.Log) error {
	if until := h.until.Load(); until != nil {
		<-*until
	}
	return h.disk.StoreLogs(ls)
}

// hungDisks are those of a cluster's peers.
type hungDisks map[PeerID]*hung

// use gives a peer that is about to start such a disk.
func (h hungDisks) use(cfg *Config) {
	one := &hung{}
	h[cfg.ID] = one
	cfg.disk = func(dir string, log *logger) (d disk, err error) {
		one.disk, err = openDisk(dir, log)
		return one, err
	}
}

// TestAMasterWhoseDiskStallsIsReplaced: Raft would keep it, as its heartbeats need no disk.
func TestAMasterWhoseDiskStallsIsReplaced(t *testing.T) {
	for _, n := range []int{2, 3, 5} {
		bubble(t, func(t *testing.T) {
			disks := hungDisks{}
			var cfg func(*Config)
			o := newOffice(&cfg)
			c := newCluster(t, n, func(to *Config) {
				cfg(to)
				to.Timing = slow
				disks.use(to)
			})
			c.put("a", "1")
			first := c.master()
			mend := disks[first.cfg.ID].hang()
			ctx, cancel := context.WithTimeout(t.Context(), stallAfter+4*stagger)
			defer cancel()
			if _, err := first.Propose(ctx, putTxn("a", "2")); !errors.Is(err, ErrUnknownOutcome) {
				t.Errorf("a write to a disk that hangs: %v", err)
			}
			// With two, nobody can be elected without the vote of the first.
			if leads := c.masters(); len(leads) != min(n-2, 1) || slices.Contains(leads, first.cfg.ID) {
				mend()
				t.Fatalf("with %d: %v lead, %s cannot write", n, leads, first.cfg.ID)
			}
			if n > 2 {
				c.put("a", "3")
			}
			o.mu.Lock()
			if o.now[first.cfg.ID] != 0 {
				t.Errorf("with %d: the work of the first goes on", n)
			}
			o.mu.Unlock()
			mend()
			c.put("a", "4")
			c.same()
		})
	}
}

func TestOnlyTheMasterResignsItsTerm(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 3, func(cfg *Config) { cfg.Timing = slow })
		first := c.master()
		term := first.Term()
		for _, p := range c.all() {
			p.resigns("p2", term)
			p.resigns("p1", term-1)
		}
		rest(t.Context(), slow.Ill)
		if first.Term() != term {
			t.Errorf("term %d has ended", term)
		}
	})
}
