package consensus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// wires is real connections over loopback between peers of one process, in real time.
type wires struct {
	mu    sync.Mutex
	addr  map[PeerID]string
	peers map[PeerID]*Peer
}

type wire struct {
	net.Listener
	w *wires
}

func (s wire) Dial(to PeerID, timeout time.Duration) (net.Conn, error) {
	s.w.mu.Lock()
	addr := s.w.addr[to]
	s.w.mu.Unlock()
	return net.DialTimeout("tcp", addr, timeout)
}

// Call goes straight to the peer: what it costs to carry is not ours.
func (w *wires) Call(ctx context.Context, to PeerID, method string, body []byte) ([]byte, error) {
	w.mu.Lock()
	p := w.peers[to]
	w.mu.Unlock()
	if p == nil {
		return nil, errors.New("connection refused")
	}
	return p.Handle(ctx, "", method, body)
}

// overWires runs n peers until the test ends, and returns them, the Master first, when as many vote as should.
func overWires(tb testing.TB, n int) []*Peer {
	tb.Helper()
	w := &wires{addr: map[PeerID]string{}, peers: map[PeerID]*Peer{}}
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	var all sync.WaitGroup
	tb.Cleanup(func() {
		cancel()
		all.Wait()
	})
	dir := tb.TempDir()
	var timing Timing
	if _, ok := tb.(*testing.B); ok {
		timing.Heartbeat = 2 * time.Second // a busy machine must not elect in between
	}
	var out []*Peer
	for i := range n {
		id := PeerID(fmt.Sprintf("p%d", i+1))
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			tb.Fatal(err)
		}
		p := New(Config{ID: id, Dir: filepath.Join(dir, string(id)), Stream: wire{l, w}, Peers: w, Bootstrap: i == 0, Timing: timing})
		w.mu.Lock()
		w.addr[id], w.peers[id] = l.Addr().String(), p
		w.mu.Unlock()
		all.Go(func() {
			if err := p.Run(ctx); err != nil {
				tb.Error(err)
			}
		})
		<-p.Ready()
		out = append(out, p)
		for {
			changed := out[0].Changed()
			if _, ok := out[0].Leader(); ok {
				break
			}
			<-changed
		}
		if err := out[0].AddPeer(ctx, id); err != nil {
			tb.Fatal(err)
		}
	}
	for {
		changed := out[0].Changed()
		if len(out[0].Status().Voters) == votersFor(n, 5) {
			return out
		}
		<-changed
	}
}

func TestPeersOverRealConnections(t *testing.T) {
	peers := overWires(t, 3)
	for i := range 100 {
		res, err := peers[0].Propose(t.Context(), putTxn("a", fmt.Sprint(i)))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range peers {
			rev, err := p.ReadIndex(t.Context())
			if err != nil || rev < res.Rev {
				t.Fatalf("read index %d, %v after %d", rev, err, res.Rev)
			}
		}
	}
	if got := peers[2].Status(); got.Role != RoleVoter || got.Leader != "p1" {
		t.Errorf("%+v", got)
	}
}

// TestLeadershipMovesUnderLoadOverRealConnections is about followers that refuse what is already on the wire: Raft's own
// pipeline then waits for itself, now and then.
func TestLeadershipMovesUnderLoadOverRealConnections(t *testing.T) {
	peers := overWires(t, 3)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			for j := 0; ctx.Err() == nil; j++ {
				for _, p := range peers {
					_, err := p.Propose(ctx, putTxn(fmt.Sprint("k", i), fmt.Sprint(j)))
					if err != nil && !errors.Is(err, ErrNotMaster) && !errors.Is(err, ErrUnknownOutcome) && ctx.Err() == nil {
						t.Error(err)
					}
				}
				rest(ctx, 100*time.Microsecond)
			}
		})
	}
	for range 30 {
		one, stop := context.WithTimeout(t.Context(), 20*time.Second)
		for _, p := range peers {
			_ = p.TransferLeadership(one)
		}
		rev, err := peers[0].ReadIndex(one)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range peers {
			if err := p.Store().WaitRev(one, rev); err != nil {
				t.Fatalf("%s stays at %d of %d: %+v", p.cfg.ID, p.Store().Rev(), rev, p.Status())
			}
		}
		stop()
	}
	cancel()
	wg.Wait()
}

func BenchmarkPropose(b *testing.B) {
	for _, n := range []int{1, 3, 5} {
		for _, clients := range []int{1, 16, 128} {
			b.Run(fmt.Sprintf("peers=%d/clients=%d", n, clients), func(b *testing.B) {
				peers := overWires(b, n)
				var next atomic.Int64
				together(b, clients, func() error {
					txn := putTxn(fmt.Sprint("k", next.Add(1)%10_000), string(make([]byte, 1000))+fmt.Sprint(next.Load()))
					_, err := peers[0].Propose(b.Context(), txn)
					return err
				})
			})
		}
	}
}

func BenchmarkReadIndex(b *testing.B) {
	peers := overWires(b, 3)
	for i, where := range []string{"master", "follower"} {
		for _, clients := range []int{1, 16, 128} {
			b.Run(fmt.Sprintf("%s/clients=%d", where, clients), func(b *testing.B) {
				together(b, clients, func() error {
					_, err := peers[i].ReadIndex(b.Context())
					return err
				})
			})
		}
	}
}

// BenchmarkSeenEverywhere is one write until every peer's store has it, with pauses between: nothing behind carries the
// commit to the followers.
func BenchmarkSeenEverywhere(b *testing.B) {
	peers := overWires(b, 3)
	i := 0
	for b.Loop() {
		i++
		res, err := peers[0].Propose(b.Context(), putTxn("a", fmt.Sprint(i)))
		if err != nil {
			b.Fatal(err)
		}
		for _, p := range peers {
			if err := p.Store().WaitRev(b.Context(), res.Rev); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// together does f b.N times from so many goroutines.
func together(b *testing.B, clients int, f func() error) {
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	b.ResetTimer()
	for range clients {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := f(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "op/s")
}
