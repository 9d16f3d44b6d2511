package fair_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"shoal/internal/fair"
)

// TestAYieldedSeatComesBack: while one request waits for something else another one computes, and then the first goes before new ones of its
// flow.
func TestAYieldedSeatComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := fair.New(fair.Config{Seats: 1, Share: 1, Most: 100})
		flow := fair.Flow{User: "one"}
		var order []string
		var first fair.Seat
		if err := first.Enter(t.Context(), g, flow); err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for i := range 3 {
			all.Go(func() {
				time.Sleep(time.Duration(i) * time.Microsecond) // so that they come in this order
				var s fair.Seat
				if err := s.Enter(t.Context(), g, flow); err != nil {
					t.Error(err)
				}
				order = append(order, fmt.Sprint("new ", i))
				time.Sleep(turn)
				s.Leave()
			})
		}
		time.Sleep(turn)
		first.Yield()
		first.Yield() // as another one does who works for the same request
		first.Resume()
		synctest.Wait()
		first.Resume()
		order = append(order, "first")
		first.Leave()
		first.Leave()
		all.Wait()
		if got := fmt.Sprint(order); got != "[new 0 first new 1 new 2]" {
			t.Error(got)
		}
	})
}

// TestPauseLetsOthersIn: what computes for long lets those go first who have had less, and nobody of its own.
func TestPauseLetsOthersIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := fair.New(fair.Config{Seats: 1, Share: 1, Most: 100})
		var long fair.Seat
		if err := long.Enter(t.Context(), g, fair.Flow{User: "long"}); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() {
			var s fair.Seat
			if s.Enter(ctx, g, fair.Flow{User: "long"}) == nil {
				t.Error("one of its own came first")
			}
		})
		synctest.Wait()
		time.Sleep(turn)
		long.Pause()
		var served atomic.Bool
		all.Go(func() {
			var s fair.Seat
			if err := s.Enter(t.Context(), g, fair.Flow{User: "short"}); err != nil {
				t.Error(err)
			}
			served.Store(true)
			s.Leave()
		})
		synctest.Wait()
		time.Sleep(turn)
		long.Pause()
		if !served.Load() {
			t.Error("the other one did not come first")
		}
		stop()
		synctest.Wait()
		long.Leave()
		all.Wait()
	})
}

// TestGivenUpAndGrantedAtOnce: who stops waiting just when the seat comes may have it, but does not wait for it again.
func TestGivenUpAndGrantedAtOnce(t *testing.T) {
	for range 100 {
		synctest.Test(t, func(t *testing.T) {
			g := fair.New(fair.Config{Seats: 1, Share: 1, Most: 10})
			var holder, waiter, third fair.Seat
			if err := holder.Enter(t.Context(), g, fair.Flow{User: "a"}); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			entered := make(chan error, 1)
			go func() { entered <- waiter.Enter(ctx, g, fair.Flow{User: "b"}) }()
			synctest.Wait()
			cancel()
			holder.Leave()
			if <-entered == nil {
				waiter.Yield()
				if err := third.Enter(t.Context(), g, fair.Flow{User: "c"}); err != nil {
					t.Fatal(err)
				}
				waiter.Resume() // at once, without a seat
				third.Leave()
				waiter.Leave()
			}
			if st := g.Stats(); st.Held != 0 || st.Waiting != 0 || st.Present != 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// TestWithoutASeat: who is exempt has a zero Seat, and what runs for no request none.
func TestWithoutASeat(t *testing.T) {
	for _, s := range []*fair.Seat{fair.SeatOf(t.Context()), {}} {
		s.Yield()
		s.Resume()
		s.Pause()
		s.Leave()
	}
}

// TestSeatsAreNeverLost: whatever requests do, and whenever their contexts end, no more seats than there are, and no more than its share for
// anybody, are held; and when all are over, all are free.
func TestSeatsAreNeverLost(t *testing.T) {
	for seed := range uint64(30) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			c := fair.Config{Seats: 1 + rnd.IntN(4), Most: 20 + rnd.IntN(40)}
			c.Share = 1 + rnd.IntN(c.Seats)
			c.Alone = c.Share + rnd.IntN(2)
			m := &model{t: t, c: c, g: fair.New(c)}
			var all sync.WaitGroup
			for i := range 60 {
				own := rand.New(rand.NewPCG(seed, uint64(i+2)))
				all.Go(func() {
					for range 30 {
						m.request(own)
					}
				})
			}
			all.Wait()
			m.late.Wait()
			if st := m.g.Stats(); st.Held != 0 || st.Waiting != 0 || st.Present != 0 || st.Granted == 0 {
				t.Errorf("seed %d, %+v: %+v", seed, c, st)
			}
			if m.served.Load() == 0 || m.refused.Load() == 0 || m.ended.Load() == 0 {
				t.Errorf("seed %d, %+v: %d served, %d refused, %d ended", seed, c, m.served.Load(), m.refused.Load(), m.ended.Load())
			}
		})
	}
}

// model counts who computes.
type model struct {
	t                      *testing.T
	c                      fair.Config
	g                      *fair.Gate
	served, refused, ended atomic.Int64
	late                   sync.WaitGroup // what outlasts its request

	mu    sync.Mutex
	all   int
	users [5]int
}

func (m *model) add(user, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all += n
	m.users[user] += n
	if m.all > m.c.Seats || m.users[user] > m.c.Alone {
		m.t.Errorf("%+v: %d compute, %d of user %d", m.c, m.all, m.users[user], user)
	}
}

func (m *model) compute(rnd *rand.Rand, user int) {
	m.add(user, 1)
	time.Sleep(some(rnd, turn))
	m.add(user, -1)
}

// some is a random time below d, often the same as another one: then things happen at once.
func some(rnd *rand.Rand, d time.Duration) time.Duration {
	return time.Duration(rnd.Int64N(int64(d))).Truncate(turn / 4)
}

// request is one request of a random flow that ends at a random moment.
func (m *model) request(rnd *rand.Rand) {
	user := rnd.IntN(len(m.users))
	f := fair.Flow{User: fmt.Sprint(user)}
	if rnd.IntN(3) > 0 {
		f.Namespace = fmt.Sprint(rnd.IntN(4))
	}
	ctx, cancel := context.WithTimeout(m.t.Context(), some(rnd, 60*turn))
	defer cancel()
	s := &fair.Seat{}
	switch err := s.Enter(ctx, m.g, f); {
	case errors.Is(err, fair.ErrTooMany):
		m.refused.Add(1)
		time.Sleep(turn)
		return
	case err != nil:
		m.ended.Add(1)
		return
	}
	defer s.Leave()
	m.served.Add(1)
	m.compute(rnd, user)
	for range rnd.IntN(4) {
		switch rnd.IntN(3) {
		case 0:
			s.Yield()
			time.Sleep(some(rnd, 3*turn))
			s.Resume()
		case 1:
			s.Pause()
		case 2: // work for it that outlasts it, as that of a write whose client has gone
			s.Yield()
			done, took := make(chan struct{}), some(rnd, 5*turn)
			m.late.Go(func() {
				time.Sleep(took)
				s.Resume()
				close(done)
			})
			select {
			case <-done:
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			return // without a seat, perhaps
		}
		m.compute(rnd, user)
	}
}

func BenchmarkUncontended(b *testing.B) {
	g := fair.New(fair.Config{Seats: 2, Share: 1, Most: 100})
	b.ReportAllocs()
	for b.Loop() {
		var s fair.Seat
		if s.Enter(b.Context(), g, fair.Flow{User: "user", Namespace: "ns"}) != nil {
			b.Fatal("refused")
		}
		s.Yield()
		s.Resume()
		s.Leave()
	}
}

// BenchmarkBusy has everybody wait, of as many flows.
func BenchmarkBusy(b *testing.B) {
	for _, flows := range []int{1, 100} {
		b.Run(fmt.Sprint(flows), func(b *testing.B) {
			g := fair.New(fair.Config{Seats: 1, Share: 1, Most: 1000})
			var next atomic.Int64
			b.SetParallelism(100)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				f := fair.Flow{User: fmt.Sprint(next.Add(1) % int64(flows))}
				for pb.Next() {
					var s fair.Seat
					if s.Enter(b.Context(), g, f) != nil {
						b.Error("refused")
					}
					s.Leave()
				}
			})
		})
	}
}
