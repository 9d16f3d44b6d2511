package consensus

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sys/unix"
)

// slowDisks take their time, in virtual time. A negative time means that they are full.
type slowDisks map[PeerID]*atomic.Int64

type slowed struct {
	disk
	by *atomic.Int64
}

func (s slowed) StoreLogs(ls []*raft.Log) error {
	by := time.Duration(s.by.Load())
	if by < 0 {
		return unix.ENOSPC
	}
	rest(context.Background(), by)
	return s.disk.StoreLogs(ls)
}

func (ds slowDisks) use(cfg *Config) {
	if ds[cfg.ID] == nil {
		ds[cfg.ID] = &atomic.Int64{}
	}
	by := ds[cfg.ID]
	cfg.disk = func(dir string, log *logger) (disk, error) {
		d, err := openDisk(dir, log)
		return slowed{d, by}, err
	}
}

// TestAPeerWithASlowDiskDoesNotVote, be it Master or not, as long as another one could.
func TestAPeerWithASlowDiskDoesNotVote(t *testing.T) {
	for _, leads := range []bool{false, true} {
		t.Run(fmt.Sprint("the master's ", leads), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				disks := slowDisks{}
				c := newCluster(t, 4, func(cfg *Config) {
					disks.use(cfg)
					cfg.Timing = slow4
				})
				victim := c.master().cfg.ID
				if !leads {
					for _, id := range c.master().Status().Voters {
						if id != c.master().cfg.ID {
							victim = id
						}
					}
				}
				disks[victim].Store(int64(400 * time.Millisecond))
				for i := range 40 {
					c.put("a", fmt.Sprint(i))
					rest(t.Context(), 100*time.Millisecond) // else they are few writes
					c.ill.fire()                            // in a real cluster by gossip
				}
				c.until("another one votes", func() bool {
					s := c.master().Status()
					return len(s.Voters) == 3 && !c.master().votes(victim)
				})
				if d, err := c.peer(victim).Disk(); d < slowDisk || err != nil {
					t.Errorf("its disk is found to take %v, %v", d, err)
				}
				began := time.Now()
				c.put("a", "fast")
				if took := time.Since(began); took > 200*time.Millisecond {
					t.Errorf("a write takes %v", took)
				}
				disks[victim].Store(0)
				for i := range 40 {
					c.put("a", fmt.Sprint("again ", i))
					rest(t.Context(), 100*time.Millisecond)
				}
				c.same()
				if d, err := c.peer(victim).Disk(); d != 0 || err != nil {
					t.Errorf("its disk is fast and found to take %v, %v", d, err)
				}
			})
		})
	}
}

// slow4 is patient enough for disks of which each write takes long.
var slow4 = Timing{Heartbeat: 2 * time.Second, Lease: time.Second, Call: 2 * time.Second, Commit: 50 * time.Millisecond}

// TestAFullDisk: its peer hands over what it can, and goes on by itself when there is room; when all are full, writes wait, and nothing
// is lost.
func TestAFullDisk(t *testing.T) {
	bubble(t, func(t *testing.T) {
		disks := slowDisks{}
		c := newCluster(t, 4, func(cfg *Config) {
			disks.use(cfg)
			cfg.Timing = slow4
		})
		c.put("a", "before")
		victim := c.master()
		disks[victim.cfg.ID].Store(-1)
		for i := range 5 {
			c.put("a", fmt.Sprint(i))
			c.ill.fire()
		}
		if d, err := victim.Disk(); d != failedDisk || !errors.Is(err, unix.ENOSPC) {
			t.Errorf("its disk is found to take %v, %v", d, err)
		}
		c.until("another one votes", func() bool { return len(c.master().Status().Voters) == 3 && !c.master().votes(victim.cfg.ID) })
		for id := range disks {
			disks[id].Store(-1)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if _, err := c.master().Propose(ctx, putTxn("a", "lost")); err == nil {
			t.Error("a write is acknowledged that is on no disk")
		}
		cancel()
		for _, p := range c.all() {
			if kv, ok, err := p.Store().Get("a", 0); err != nil || !ok || string(kv.Value) == "lost" {
				t.Errorf("%s reads %q, %v, %v", p.cfg.ID, kv.Value, ok, err)
			}
		}
		for id := range disks {
			disks[id].Store(0)
		}
		c.put("a", "after")
		c.same()
		rest(t.Context(), 2*failRest)
		for _, p := range c.all() {
			if d, err := p.Disk(); d != 0 || err != nil {
				t.Errorf("the disk of %s is found to take %v, %v", p.cfg.ID, d, err)
			}
		}
	})
}

// TestWhoHadNoRoomCatchesUpSoon: however long its disk was full.
func TestWhoHadNoRoomCatchesUpSoon(t *testing.T) {
	bubble(t, func(t *testing.T) {
		disks := slowDisks{}
		c := newCluster(t, 3, func(cfg *Config) {
			disks.use(cfg)
			cfg.Timing = slow4
		})
		c.put("a", "before")
		c.same()
		victim := PeerID("p3")
		if c.master().cfg.ID == victim {
			victim = "p2"
		}
		disks[victim].Store(-1)
		for i := range 120 {
			c.put("a", fmt.Sprint(i))
			rest(t.Context(), time.Second)
		}
		disks[victim].Store(0)
		ctx, cancel := context.WithTimeout(t.Context(), 2*noRoomRest)
		defer cancel()
		if err := c.peer(victim).fsm.applied.Wait(ctx, c.master().fsm.applied.Value()); err != nil {
			t.Errorf("it does not have everything a moment after there is room: %v", err)
		}
		c.same()
	})
}
