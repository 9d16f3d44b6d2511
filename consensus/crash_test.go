package consensus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"shoal/consensus/store"
	"shoal/internal/crash"
)

// alone runs the only voter of a cluster, whose log is in dir, until the function it returns is called.
func alone(ctx context.Context, dir string) (p *Peer, stop func() error, err error) {
	_, trans := raft.NewInmemTransportWithTimeout("p1", 100*time.Millisecond)
	p = New(Config{
		ID: "p1", Dir: dir, Transport: trans, Bootstrap: true, HistoryMax: 6, Peers: nobody{},
		Timing: Timing{Heartbeat: 100 * time.Millisecond, SnapshotEvery: time.Hour, TrailingLogs: 4},
	})
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	stop = func() error { cancel(); return <-done }
	select {
	case <-p.Ready():
		return p, stop, nil
	case err := <-done:
		cancel()
		return nil, nil, err
	}
}

// nobody cannot be reached.
type nobody struct{}

func (nobody) Call(context.Context, PeerID, string, []byte) ([]byte, error) {
	return nil, errors.New("connection refused")
}

// insist repeats what may fail while there is no Master.
func insist(ctx context.Context, p *Peer, do func() error) error {
	for {
		changed := p.Changed()
		err := do()
		if err == nil || ctx.Err() != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// put writes number i.
func put(ctx context.Context, p *Peer, i int) error {
	_, err := p.Propose(ctx, putTxn(fmt.Sprint("k", i%3), fmt.Sprint(i)))
	return err
}

// TestACrashLosesNothingAcknowledged kills a peer before every change it makes to its files: while it founds a cluster, appends, applies,
// takes snapshots, cuts its log off, and takes in and removes members.
func TestACrashLosesNothingAcknowledged(t *testing.T) {
	crash.Each(t, 1, func(dir string, ack func(string)) error {
		p, stop, err := alone(t.Context(), dir)
		if err != nil {
			return err
		}
		for i := 1; i <= 12; i++ {
			if err := insist(t.Context(), p, func() error { return put(t.Context(), p, i) }); err != nil {
				return err
			}
			ack(fmt.Sprint(i))
			switch i {
			case 4, 9:
				if err := p.raft.Load().Snapshot().Error(); err != nil {
					return err
				}
			case 6:
				if err := insist(t.Context(), p, func() error { return p.AddPeer(t.Context(), "p2") }); err != nil {
					return err
				}
				ack("added")
			case 8:
				if err := insist(t.Context(), p, func() error { return p.RemovePeer(t.Context(), "p2") }); err != nil {
					return err
				}
				ack("removed")
			}
		}
		return stop()
	}, func(t *testing.T, dir string, acked []string) {
		reopen(t, dir, func(p *Peer) {
			last := 0
			for _, a := range acked {
				_, _ = fmt.Sscan(a, &last)
			}
			if got := newest(t, p); got != last && got != last+1 {
				t.Errorf("write %d was acknowledged, and the newest here is %d", last, got)
			}
			member := p.isMember("p2")
			if added, removed := slices.Contains(acked, "added"), slices.Contains(acked, "removed"); added && last < 8 && !member || removed && member {
				t.Errorf("p2 is a member: %v, after %s", member, strings.Join(acked, " "))
			}
		})
	})
}

// TestACrashRecoversWhollyOrNotAtAll kills what makes a survivor's directory that of a cluster of one, at every change of a file.
func TestACrashRecoversWhollyOrNotAtAll(t *testing.T) {
	crash.Each(t, 1, func(dir string, ack func(string)) error {
		p, stop, err := alone(t.Context(), dir)
		if err != nil {
			return err
		}
		for i := 1; i <= 4; i++ {
			if err := insist(t.Context(), p, func() error { return put(t.Context(), p, i) }); err != nil {
				return err
			}
		}
		if err := insist(t.Context(), p, func() error { return p.AddPeer(t.Context(), "p2") }); err != nil {
			return err
		}
		if err := stop(); err != nil {
			return err
		}
		ack("lost")
		s, err := OpenSalvage(Config{ID: "p1", Dir: dir})
		if err != nil {
			return err
		}
		if err := s.Alone(nil); err != nil {
			return err
		}
		ack("alone")
		return s.Close()
	}, func(t *testing.T, dir string, acked []string) {
		if len(acked) == 0 {
			return // the other test's matter
		}
		reopen(t, dir, func(p *Peer) {
			recovered := p.Store().Rev() > beyond
			if p.isMember("p2") == recovered || slices.Contains(acked, "alone") && !recovered {
				t.Errorf("revision %d, p2 is a member: %v, after %s", p.Store().Rev(), p.isMember("p2"), strings.Join(acked, " "))
			}
			if got := newest(t, p); got != 4 {
				t.Errorf("the newest here is %d", got)
			}
		})
	})
}

// reopen starts the peer of a directory again, has it looked at when it leads, and writes.
func reopen(t *testing.T, dir string, look func(*Peer)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	p, stop, err := alone(ctx, dir)
	if err != nil {
		t.Error(err)
		return
	}
	defer func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}()
	if err := insist(ctx, p, func() error { _, err := p.ReadIndex(ctx); return err }); err != nil {
		t.Error(err)
		return
	}
	look(p)
	if err := insist(ctx, p, func() error { return put(ctx, p, 100) }); err != nil {
		t.Errorf("no writing after the crash: %v", err)
	}
}

// newest returns the highest number that was written, and checks that all before it are as they were.
func newest(t *testing.T, p *Peer) int {
	t.Helper()
	top := 0
	values := map[string]int{}
	for i := range 3 {
		kv, ok, err := p.Store().Get(store.Key(fmt.Sprint("k", i)), 0)
		if err != nil {
			t.Error(err)
		}
		if ok {
			n := 0
			_, _ = fmt.Sscan(string(kv.Value), &n)
			values[string(kv.Key)] = n
			top = max(top, n)
		}
	}
	for i := max(1, top-2); i <= top; i++ {
		if k := fmt.Sprint("k", i%3); values[k] != i {
			t.Errorf("%s is %d, and the newest of all is %d", k, values[k], top)
		}
	}
	return top
}
