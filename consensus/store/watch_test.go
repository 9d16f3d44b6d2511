package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
)

func put(k Key, v string) Txn { return Txn{Ops: []Op{{Key: k, Value: []byte(v)}}} }
func del(k Key) Txn           { return Txn{Ops: []Op{{Key: k, Delete: true}}} }

func mustNext(t *testing.T, w *Watcher) []Event {
	t.Helper()
	events, err := w.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return events
}

// nothing fails the test unless a Next would wait.
func nothing(t *testing.T, w *Watcher) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if events, err := w.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, %v instead of nothing", events, err)
	}
}

func watch(t *testing.T, s *Store, prefix Key, after Rev) *Watcher {
	w := s.Watch(prefix, after)
	t.Cleanup(w.Close)
	return w
}

func TestWatchOfAFutureRevisionWaitsAndSkipsWhatComesBefore(t *testing.T) {
	s := New()
	w := watch(t, s, "", 2)
	s.Apply(1, put("a", "1"))
	s.Apply(1, put("a", "2"))
	nothing(t, w)
	s.Apply(1, put("a", "3"))
	if ev := mustNext(t, w); len(ev) != 1 || ev[0].Rev != 3 {
		t.Fatalf("got %v", ev)
	}
}

func TestWatchGetsATxnWholeAndOnce(t *testing.T) {
	s := New()
	w := watch(t, s, "k", 0)
	var big Txn
	for i := range 3 * batch {
		big.Ops = append(big.Ops, Op{Key: Key(fmt.Sprintf("k%06d", i))})
	}
	s.Apply(1, big)
	s.Apply(1, put("k", "after"))
	if ev := mustNext(t, w); len(ev) != 3*batch {
		t.Fatalf("first batch has %d events", len(ev))
	}
	if ev := mustNext(t, w); len(ev) != 1 || ev[0].Key != "k" {
		t.Fatalf("second batch is %v", ev)
	}
	nothing(t, w)
}

func TestWatchOfASlowReaderLosesNothing(t *testing.T) {
	s := New()
	w := watch(t, s, "", 0)
	for i := range 10 * batch {
		s.Apply(1, put("k", fmt.Sprint(i)))
	}
	next := Rev(1)
	for next <= 10*batch {
		for _, ev := range mustNext(t, w) {
			if ev.Rev != next {
				t.Fatalf("event %d where %d should be", ev.Rev, next)
			}
			next++
		}
	}
}

func TestWatchAtTheCompactionRevisionSeesTheNextDeletion(t *testing.T) {
	s := New()
	s.Apply(1, put("a", "1"))
	s.Apply(1, del("a"))
	s.Apply(1, Txn{Compact: 1})
	ev := mustNext(t, watch(t, s, "", 1))
	if len(ev) != 1 || !ev[0].Deleted || string(ev[0].Prev) != "1" || ev[0].PrevMod != 1 {
		t.Fatalf("got %+v", ev)
	}
}

func TestWatchBelowTheCompactionRevisionIsExpired(t *testing.T) {
	s := New()
	for i := range 5 {
		s.Apply(1, put("a", fmt.Sprint(i)))
	}
	early := watch(t, s, "a", 1)
	s.Apply(1, Txn{Compact: 3})
	for _, w := range []*Watcher{early, watch(t, s, "a", 2), watch(t, s, "other", 2)} {
		for range 2 {
			if _, err := w.Next(t.Context()); !errors.Is(err, ErrCompacted) {
				t.Fatalf("got %v", err)
			}
		}
	}
	if ev := mustNext(t, watch(t, s, "a", 3)); len(ev) != 2 || ev[0].Rev != 4 {
		t.Fatalf("got %v", ev)
	}
}

func TestWatchOfAQuietPrefixSurvivesCompaction(t *testing.T) {
	s := New()
	w := watch(t, s, "quiet/", 0)
	for i := range 100 {
		s.Apply(1, put("busy/a", fmt.Sprint(i)))
	}
	s.Apply(1, Txn{Compact: 90})
	nothing(t, w)
	s.Apply(1, put("quiet/a", "x"))
	if ev := mustNext(t, w); len(ev) != 1 || ev[0].Key != "quiet/a" {
		t.Fatalf("got %v", ev)
	}
}

func TestSnapshotInstalledDuringAWatchExpiresIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ahead := New()
		for i := range 10 {
			ahead.Apply(1, put("a", fmt.Sprint(i)))
		}
		ahead.Apply(1, Txn{Compact: 5})
		s := New()
		s.Apply(1, put("a", "0"))
		w := s.Watch("", 1)
		defer w.Close()
		got := make(chan error, 1)
		go func() {
			_, err := w.Next(t.Context())
			got <- err
		}()
		synctest.Wait()
		// Two in quick succession.
		for range 2 {
			var b bytes.Buffer
			if err := ahead.Snapshot(&b); err != nil {
				t.Fatal(err)
			}
			if err := s.Restore(&b); err != nil {
				t.Fatal(err)
			}
			ahead.Apply(1, put("b", "x"))
		}
		if err := <-got; !errors.Is(err, ErrCompacted) {
			t.Fatalf("got %v", err)
		}
	})
}

func TestRestoreToTheSameRevisionKeepsAWatchThatMissedNothing(t *testing.T) {
	s := New()
	s.Apply(1, put("a", "0"))
	w := watch(t, s, "", 1)
	roundTrip(t, s)
	nothing(t, w)
	s.Apply(1, put("a", "1"))
	if ev := mustNext(t, w); len(ev) != 1 || string(ev[0].Prev) != "0" {
		t.Fatalf("got %+v", ev)
	}
}

func TestRestoreThatTakesTheRevisionBackExpiresEveryWatch(t *testing.T) {
	s := New()
	s.Apply(1, put("a", "0"))
	var b bytes.Buffer
	if err := s.Snapshot(&b); err != nil {
		t.Fatal(err)
	}
	s.Apply(1, put("a", "1"))
	watches := []*Watcher{watch(t, s, "", 2), watch(t, s, "", 9), watch(t, s, "", 1)}
	if err := s.Restore(&b); err != nil {
		t.Fatal(err)
	}
	for i, w := range watches {
		if _, err := w.Next(t.Context()); !errors.Is(err, ErrCompacted) {
			t.Errorf("watch %d: got %v", i, err)
		}
	}
}

func TestAJumpExpiresEveryWatchAndReadOfBefore(t *testing.T) {
	s := New()
	s.Apply(1, put("a", "1"))
	s.Apply(1, put("b", "2"))
	s.Apply(1, Txn{Ops: []Op{{Key: "b", Delete: true}}})
	now, never := watch(t, s, "a", s.Rev()), watch(t, s, "quiet/", s.Rev())
	s.Jump(100)
	if s.Rev() != 103 || s.OldestRev() != 103 || s.Len() != 1 {
		t.Errorf("revision %d, oldest %d, %d keys", s.Rev(), s.OldestRev(), s.Len())
	}
	for _, w := range []*Watcher{now, never, watch(t, s, "a", 102)} {
		if _, err := w.Next(t.Context()); !errors.Is(err, ErrCompacted) {
			t.Errorf("a watch of before: %v", err)
		}
	}
	if _, _, err := s.Get("a", 3); !errors.Is(err, ErrCompacted) {
		t.Errorf("a read of before: %v", err)
	}
	after := watch(t, s, "", 103)
	if res := s.Apply(1, put("a", "3")); res.Rev != 104 {
		t.Errorf("goes on at %d", res.Rev)
	}
	if ev := mustNext(t, after); len(ev) != 1 || ev[0].Rev != 104 || string(ev[0].Prev) != "1" || ev[0].PrevMod != 1 {
		t.Errorf("got %v", ev)
	}
	var b bytes.Buffer
	again := New()
	if err := errors.Join(s.Snapshot(&b), again.Restore(&b)); err != nil || again.Hash() != s.Hash() {
		t.Errorf("a snapshot is another: %v", err)
	}
}

func TestCloseEndsANextThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New()
		w := s.Watch("", 0)
		got := make(chan error, 1)
		go func() {
			_, err := w.Next(t.Context())
			got <- err
		}()
		synctest.Wait()
		w.Close()
		w.Close()
		if err := <-got; !errors.Is(err, ErrClosed) {
			t.Fatalf("got %v", err)
		}
	})
}

// TestWatchUnderCompaction lets readers, a writer and compaction race: what a reader got without being told to list
// again must have no gap, and no event may lack the value before.
func TestWatchUnderCompaction(t *testing.T) {
	s := New()
	const last = 20_000
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			pos := Rev(0)
			w := s.Watch("k", 0)
			defer func() { w.Close() }()
			for pos < last {
				events, err := w.Next(t.Context())
				if errors.Is(err, ErrCompacted) {
					w.Close()
					pos = s.OldestRev()
					w = s.Watch("k", pos)
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				for _, ev := range events {
					if ev.Rev != pos+1 || ev.Rev > 1 && ev.PrevMod != ev.Rev-1 {
						t.Errorf("event %d after %d, of %d", ev.Rev, ev.PrevMod, pos)
						return
					}
					pos = ev.Rev
				}
			}
		})
	}
	wg.Go(func() {
		for at := Rev(0); at < last; {
			at = s.Rev()
			kv, ok, err := s.Get("k", at)
			if errors.Is(err, ErrCompacted) {
				continue
			}
			if err != nil || at > 0 && (!ok || kv.Mod != at) {
				t.Errorf("get at %d: %v %v %v", at, kv.Mod, ok, err)
				return
			}
		}
	})
	for i := range last {
		s.Apply(1, put("k", fmt.Sprint(i)))
		if i%50 == 0 {
			s.Apply(1, Txn{Compact: s.Rev() - min(s.Rev(), 20)})
		}
	}
	wg.Wait()
}

// A peer that was away for a while, or was started again, has the newest changes, too: who watches elsewhere can go on there.
func TestAWatchGoesOnOverASnapshot(t *testing.T) {
	ahead := New()
	for i := range 3 * pastMax {
		ahead.Apply(1, Txn{Ops: []Op{{Key: Key(fmt.Sprint("a", i%10)), Value: fmt.Append(nil, i)}, {Key: "b", Value: fmt.Append(nil, i)}, {Key: "c", Delete: i%2 == 0, Value: fmt.Append(nil, i)}}})
	}
	s := New()
	s.Apply(1, put("a0", "0"))
	var b bytes.Buffer
	if err := ahead.Snapshot(&b); err != nil {
		t.Fatal(err)
	}
	if err := s.Restore(&b); err != nil {
		t.Fatal(err)
	}
	if n := s.HistoryLen(); n > pastMax || n < pastMax-3 || s.Hash() != ahead.Hash() || s.Len() != ahead.Len() {
		t.Fatalf("%d changes, %d keys", n, s.Len())
	}
	floor := s.OldestRev()
	s.Apply(1, put("new", "x"))
	ahead.Apply(1, put("new", "x"))
	here, there := watch(t, s, "", floor), watch(t, ahead, "", floor)
	for seen := floor; seen < s.Rev(); {
		got, want := mustNext(t, here), mustNext(t, there)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("after %d (-there +here):\n%s", seen, diff)
		}
		seen = got[len(got)-1].Rev
	}
	if _, err := s.Watch("", floor-1).Next(t.Context()); !errors.Is(err, ErrCompacted) {
		t.Errorf("a watch from before the past: %v", err)
	}
	for _, at := range []Rev{floor, floor + 7, s.Rev() - 1} {
		got, err := s.List("", "", at, 0)
		want, _ := ahead.List("", "", at, 0)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("at %d: %v\n%s", at, err, diff)
		}
	}
}
