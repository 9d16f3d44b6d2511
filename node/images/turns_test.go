package images

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
)

var one = digest.FromString("one")

func nobody() []string { return nil }

// A hundred machines fetch one image at the same time: one of them from outside, and never more than fanout from one.
func TestOneFetchesFromOutside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns(func(string) bool { return true })
		var (
			mu      sync.Mutex
			from    = map[string]int{}
			has     = map[string]bool{}
			outside int
			all     sync.WaitGroup
		)
		for i := range 100 {
			all.Go(func() {
				me := fmt.Sprintf("peer-%d", i)
				source, done, err := turns.take(t.Context(), one, me, nobody)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if source == "" {
					outside++
				} else if from[source]++; from[source] > fanout || !has[source] {
					t.Errorf("%d fetch from %s, which has it: %v", from[source], source, has[source])
				}
				mu.Unlock()
				time.Sleep(time.Second)
				mu.Lock()
				from[source]--
				has[me] = true
				mu.Unlock()
				done(true)
			})
		}
		begun := time.Now()
		all.Wait()
		// After n seconds 3^(n-1) have it: 1, 3, 9, 27, 81, all.
		if took := time.Since(begun); outside != 1 || took > 6*time.Second {
			t.Errorf("%d fetched from outside; %v", outside, took)
		}
	})
}

func TestTheNextGoesOutsideWhenOneFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns(func(string) bool { return true })
		_, done, err := turns.take(t.Context(), one, "a", nobody)
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan string)
		go func() {
			from, _, _ := turns.take(t.Context(), one, "b", nobody)
			got <- "from " + from
		}()
		synctest.Wait()
		select {
		case <-got:
			t.Fatal("two fetch from outside")
		default:
		}
		done(false)
		done(true) // heard once
		if from := <-got; from != "from " {
			t.Error(from)
		}
	})
}

func TestWhoGivesUpHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns(func(string) bool { return true })
		_, done, err := turns.take(t.Context(), one, "a", nobody)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan error)
		go func() {
			_, _, err := turns.take(ctx, one, "b", nobody)
			gone <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-gone; err == nil {
			t.Error("a turn after giving up")
		}
		done(true)
		if from, _, err := turns.take(t.Context(), one, "c", nobody); from != "a" || err != nil {
			t.Errorf("from %q, %v", from, err)
		}
	})
}

func TestMachinesThatAreGoneAreNotAsked(t *testing.T) {
	dead := map[string]bool{}
	turns := newTurns(func(name string) bool { return !dead[name] })
	take := func(me string, holders ...string) (string, func(bool)) {
		t.Helper()
		from, done, err := turns.take(t.Context(), one, me, func() []string { return holders })
		if err != nil {
			t.Fatal(err)
		}
		return from, done
	}
	dead["old"] = true
	if from, done := take("a", "old", "b"); from != "b" {
		t.Errorf("from %q", from)
	} else {
		done(true)
	}
	dead["b"] = true
	from, done := take("c")
	if from != "a" {
		t.Errorf("from %q", from)
	}
	done(false) // a does not have it after all
	if from, _ = take("c"); from != "" {
		t.Errorf("from %q", from)
	}
}

func TestWhatNobodyFetchesIsForgotten(t *testing.T) {
	turns := newTurns(func(string) bool { return true })
	for i := range 3 * rememberMost {
		_, done, err := turns.take(t.Context(), digest.FromString(fmt.Sprint(i)), "a", nobody)
		if err != nil {
			t.Fatal(err)
		}
		done(i%2 == 0)
	}
	if len(turns.queues) != rememberMost || len(turns.idle) != rememberMost {
		t.Errorf("%d images remembered, %d idle", len(turns.queues), len(turns.idle))
	}
}

// Machines come, fail, give up and die in any order: nobody waits for ever, and the books balance.
func TestTurnsBalance(t *testing.T) {
	for seed := range uint64(50) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 0))
			var mu sync.Mutex
			dead := map[string]bool{}
			turns := newTurns(func(name string) bool { mu.Lock(); defer mu.Unlock(); return !dead[name] })
			var all sync.WaitGroup
			for i := range 40 {
				me := fmt.Sprintf("peer-%d", i%15)
				start, work, ok, quits, dies := rng.IntN(30), 1+rng.IntN(10), rng.IntN(4) > 0, rng.IntN(5) == 0, rng.IntN(10) == 0
				all.Go(func() {
					time.Sleep(time.Duration(start) * time.Second)
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					if quits {
						ctx, cancel = context.WithTimeout(ctx, 2*time.Second)
						defer cancel()
					}
					_, done, err := turns.take(ctx, one, me, nobody)
					if err != nil {
						return
					}
					time.Sleep(time.Duration(work) * time.Second)
					if dies {
						mu.Lock()
						dead[me] = true
						mu.Unlock()
					}
					done(ok && !dies)
				})
			}
			all.Wait()
			q := turns.queues[one]
			if len(q.busy) > 0 || len(q.waiting) > 0 {
				t.Errorf("seed %d: %v fetch, %d wait", seed, q.busy, len(q.waiting))
			}
		})
	}
}

func TestEveryoneComesToTheSameKeepers(t *testing.T) {
	peers := []string{"a", "b", "c", "d"}
	kept := map[string]int{}
	for i := range 400 {
		d := digest.FromString(fmt.Sprint(i))
		keepers := keepersOf(d, peers)
		if len(keepers) != 2 || keepers[0] == keepers[1] {
			t.Fatalf("%q", keepers)
		}
		kept[keepers[0]]++
		if got := keepersOf(d, []string{"d", "c", "b", "a"}); !slices.Equal(got, keepers) {
			t.Errorf("%q or %q", keepers, got)
		}
		if got := keepersOf(d, slices.DeleteFunc(slices.Clone(peers), func(p string) bool { return p == keepers[0] })); got[0] != keepers[1] {
			t.Errorf("the second is not the one that follows: %q, then %q", keepers, got)
		}
	}
	for _, p := range peers {
		if kept[p] < 50 {
			t.Errorf("%s keeps %d of 400", p, kept[p])
		}
	}
	if got := keepersOf(one, nil); len(got) != 0 {
		t.Errorf("of nobody: %q", got)
	}
}
