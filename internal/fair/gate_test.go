package fair_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"shoal/internal/fair"
)

// turn is how long one request of these tests computes; the clock is the bubble's.
const turn = time.Millisecond

// flood has clients ask one after the other until ctx ends, each request as the flow that flow returns for it.
func flood(ctx context.Context, all *sync.WaitGroup, g *fair.Gate, clients int, flow func(client, n int) fair.Flow) {
	for c := range clients {
		all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				var s fair.Seat
				if s.Enter(ctx, g, flow(c, n)) == nil {
					time.Sleep(turn)
					s.Leave()
				}
			}
		})
	}
}

// TestWhoAsksRarelyIsNext: however a flood is spread over users and namespaces, a request of somebody else waits for no more than what computes just
// then; and so it is for the owner of a namespace that another user floods.
func TestWhoAsksRarelyIsNext(t *testing.T) {
	quiet := fair.Flow{User: "quiet", Namespace: "hers"}
	for name, flow := range map[string]func(client, n int) fair.Flow{
		"one user":                   func(int, int) fair.Flow { return fair.Flow{User: "loud", Namespace: "his"} },
		"one user, no namespace":     func(int, int) fair.Flow { return fair.Flow{User: "loud"} },
		"one user, many namespaces":  func(c, n int) fair.Flow { return fair.Flow{User: "loud", Namespace: fmt.Sprint(c, n)} },
		"many users, one namespace":  func(c, _ int) fair.Flow { return fair.Flow{User: fmt.Sprint(c), Namespace: "his"} },
		"one user, her namespace":    func(int, int) fair.Flow { return fair.Flow{User: "loud", Namespace: "hers"} },
		"many users, her namespace":  func(c, _ int) fair.Flow { return fair.Flow{User: fmt.Sprint(c % 10), Namespace: "hers"} },
		"many users, all namespaces": func(c, n int) fair.Flow { return fair.Flow{User: fmt.Sprint(c % 7), Namespace: fmt.Sprint(n % 5)} },
	} {
		for _, seats := range []int{1, 2, 8} {
			t.Run(fmt.Sprintf("%s, %d seats", name, seats), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					g := fair.New(fair.Config{Seats: seats, Share: max(1, seats-1), Most: 1 << 20})
					ctx, stop := context.WithCancel(t.Context())
					defer stop()
					var all sync.WaitGroup
					flood(ctx, &all, g, 1000, flow)
					time.Sleep(100 * turn)
					for range 50 {
						begun := time.Now()
						var s fair.Seat
						if err := s.Enter(ctx, g, quiet); err != nil {
							t.Fatal(err)
						}
						if waited := time.Since(begun); waited > turn {
							t.Fatalf("waited %v, where a turn takes %v", waited, turn)
						}
						time.Sleep(turn / 4)
						s.Leave()
						time.Sleep(20*turn + turn/7)
					}
					stop()
					all.Wait()
				})
			})
		}
	}
}

// TestTenThousandWait: one flow's queue, however long, is one flow's.
func TestTenThousandWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := fair.New(fair.Config{Seats: 2, Share: 2, Most: 20_000})
		ctx, stop := context.WithCancel(t.Context())
		var all sync.WaitGroup
		var before atomic.Int64
		for range 10_000 {
			all.Go(func() {
				var s fair.Seat
				if s.Enter(ctx, g, fair.Flow{User: "loud"}) == nil {
					before.Add(1)
					time.Sleep(turn)
					s.Leave()
				}
			})
		}
		synctest.Wait()
		if st := g.Stats(); st.Waiting != 9998 {
			t.Fatalf("%+v", st)
		}
		seen := before.Load()
		var s fair.Seat
		if err := s.Enter(ctx, g, fair.Flow{User: "quiet"}); err != nil {
			t.Fatal(err)
		}
		if n := before.Load() - seen; n > 1 {
			t.Errorf("%d requests came first", n)
		}
		s.Leave()
		stop()
		all.Wait()
		if st := g.Stats(); st.Held != 0 || st.Waiting != 0 || st.Present != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// TestTimeIsShared: two floods have the seats for as long, whatever their requests cost, however many clients and users they have, and whoever was
// there before.
func TestTimeIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := fair.New(fair.Config{Seats: 2, Share: 2, Most: 1000})
		ctx, stop := context.WithCancel(t.Context())
		var all sync.WaitGroup
		var had [2]atomic.Int64
		begin := func(i, clients int, cost time.Duration, flow func(client int) fair.Flow) {
			for c := range clients {
				all.Go(func() {
					for ctx.Err() == nil {
						var s fair.Seat
						if s.Enter(ctx, g, flow(c)) == nil {
							time.Sleep(cost)
							had[i].Add(int64(cost))
							s.Leave()
						}
					}
				})
			}
		}
		begin(0, 100, 10*turn, func(c int) fair.Flow { return fair.Flow{User: fmt.Sprint("member", c), Namespace: "his"} })
		time.Sleep(10_000 * turn)
		before := had[0].Load()
		begin(1, 10, turn, func(int) fair.Flow { return fair.Flow{User: "other", Namespace: "hers"} })
		time.Sleep(10_000 * turn)
		stop()
		all.Wait()
		if a, b := time.Duration(had[0].Load()-before), time.Duration(had[1].Load()); a < 9*b/10 || b < 9*a/10 {
			t.Errorf("the seats were held for %v and %v", a, b)
		}
	})
}

// TestWhoIsGoneIsForgotten: somebody who makes namespaces up has no memory of the gate for it.
func TestWhoIsGoneIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := fair.New(fair.Config{Seats: 2, Share: 1, Most: 100})
		for i := range 10_000 {
			var s fair.Seat
			if err := s.Enter(t.Context(), g, fair.Flow{User: "loud", Namespace: fmt.Sprint(i)}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(turn)
			s.Leave()
		}
		if st := g.Stats(); st.Parties > 1000 {
			t.Errorf("%+v", st)
		}
	})
}

// TestTheBiggestCrowdIsRefused: when there is no room, who has most here is refused, and nobody else.
func TestTheBiggestCrowdIsRefused(t *testing.T) {
	for name, loud := range map[string]func(n int) fair.Flow{
		"a user":                    func(n int) fair.Flow { return fair.Flow{User: "loud", Namespace: fmt.Sprint(n)} },
		"a namespace":               func(n int) fair.Flow { return fair.Flow{User: fmt.Sprint("loud", n), Namespace: "his"} },
		"a user in another's place": func(int) fair.Flow { return fair.Flow{User: "loud", Namespace: "hers"} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := fair.New(fair.Config{Seats: 1, Share: 1, Most: 100})
				ctx, stop := context.WithCancel(t.Context())
				var all sync.WaitGroup
				var refused, wrongly, served atomic.Int64
				ask := func(f fair.Flow, refused *atomic.Int64) {
					all.Go(func() {
						var s fair.Seat
						switch err := s.Enter(ctx, g, f); {
						case errors.Is(err, fair.ErrTooMany):
							refused.Add(1)
						case err != nil:
							t.Error(err)
						default:
							served.Add(1)
							time.Sleep(turn)
							s.Leave()
						}
					})
				}
				for n := range 150 {
					ask(loud(n), &refused)
				}
				synctest.Wait()
				if n := refused.Load(); n != 50 {
					t.Fatalf("%d were refused", n)
				}
				for range 10 { // in the place of as many others
					ask(fair.Flow{User: "quiet", Namespace: "hers"}, &wrongly)
				}
				synctest.Wait()
				if n := refused.Load(); n != 60 || wrongly.Load() != 0 {
					t.Errorf("%d were refused, and %d of the quiet one's", n, wrongly.Load())
				}
				if st := g.Stats(); st.Present != 100 || st.Rejected != 60 {
					t.Errorf("%+v", st)
				}
				all.Wait()
				if n := served.Load(); n != 100 {
					t.Errorf("%d were served", n)
				}
				stop()
			})
		})
	}
}

// TestNobodyHasMoreThanTheirShare: of what floods, seats stay free for others; and others get one in a namespace of which somebody has the share.
func TestNobodyHasMoreThanTheirShare(t *testing.T) {
	for name, c := range map[string]struct {
		users, held int
	}{"one user": {1, 3}, "two users of a namespace": {2, 3}, "a hundred": {100, 6}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := fair.New(fair.Config{Seats: 10, Share: 3, Most: 1000})
				var all sync.WaitGroup
				seats := make([]fair.Seat, 100)
				for i := range seats {
					all.Go(func() {
						if err := seats[i].Enter(t.Context(), g, fair.Flow{User: fmt.Sprint(i % c.users), Namespace: "his"}); err != nil {
							t.Error(err)
						}
					})
					synctest.Wait()
				}
				if st := g.Stats(); st.Held != c.held || st.Waiting != 100-c.held {
					t.Errorf("%+v", st)
				}
				for i := range seats {
					seats[i].Leave()
				}
				all.Wait()
			})
		})
	}
}

// TestAloneOneMayHaveMore: but only until somebody else comes, and again when they have not come for a while.
func TestAloneOneMayHaveMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := fair.New(fair.Config{Seats: 8, Share: 2, Alone: 6, Most: 1000})
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		var all sync.WaitGroup
		flood(ctx, &all, g, 100, func(int, int) fair.Flow { return fair.Flow{User: "loud", Namespace: "his"} })
		held := func(want int, when string) {
			t.Helper()
			synctest.Wait()
			if st := g.Stats(); st.Held != want {
				t.Errorf("%s: %+v", when, st)
			}
		}
		held(6, "alone")
		var s fair.Seat
		if err := s.Enter(t.Context(), g, fair.Flow{User: "quiet"}); err != nil {
			t.Fatal(err)
		}
		s.Leave()
		time.Sleep(2*turn + turn/2)
		held(2, "with another one")
		time.Sleep(11 * time.Second)
		held(6, "alone again")
		stop()
		all.Wait()
	})
}

func TestLimit(t *testing.T) {
	l := fair.NewLimit(2)
	for i, c := range []struct {
		user string
		want bool
	}{{"a", true}, {"a", true}, {"a", false}, {"b", true}} {
		if got := l.Take(c.user); got != c.want {
			t.Errorf("%d: %s may have one more: %v", i, c.user, got)
		}
	}
	l.GiveBack("a")
	if got := []bool{l.Take("a"), l.Take("a")}; !got[0] || got[1] {
		t.Error("after one was given back:", got)
	}
	if all, rejected := l.Stats(); all != 3 || rejected != 2 {
		t.Error(all, rejected)
	}
}
