package store

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
)

// What etcd's users and its robustness tests have found wrong in etcd, as far as a store like this one could have it, too. Each test has the number of the
// issue. Those about logs and crashes are in package consensus: 13766 and 14370 in TestPowerLossLosesNothingAcknowledged and
// TestAClusterComesBackFromDisk; 15220 (bookmarks that overtake events) and 15271 (watches that go back in time after a partition) through the API
// in TestHistoriesThroughTheAPI. 14571 and 14685 are about authentication and defragmentation, which the store does not have.

// TestEtcd17247: an event was sent twice when a transaction changed the key before.
func TestEtcd17247ATxnOfManyOpsIsSeenOnce(t *testing.T) {
	s := New()
	w := watch(t, s, "", 0)
	s.Apply(1, put("a", "0"))
	s.Apply(1, Txn{Compares: []Compare{{Key: "a", Mod: 1}}, Ops: []Op{{Key: "a", Value: []byte("1")}, {Key: "b"}, {Key: "a", Value: []byte("1")}, {Key: "a", Delete: true}}})
	var got []string
	for len(got) < 4 {
		for _, ev := range mustNext(t, w) {
			got = append(got, fmt.Sprint(ev.Rev, ev.Key, ev.Deleted))
		}
	}
	if want := "[1afalse 2afalse 3bfalse 4atrue]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
	nothing(t, w)
}

// TestEtcd17529: slow watches lost events when they were caught up.
func TestEtcd17529SlowWatchesLoseNothing(t *testing.T) {
	s := New()
	slow := watch(t, s, "k", 0)
	for i := range 5 * batch {
		s.Apply(1, Txn{Ops: []Op{{Key: "k", Value: []byte(fmt.Sprint(i))}, {Key: "other", Value: []byte(fmt.Sprint(i))}}})
		if i%500 == 0 {
			fast := watch(t, s, "k", s.Rev()-2)
			if ev := mustNext(t, fast); len(ev) != 1 {
				t.Fatalf("a watch that begins in between sees %d events", len(ev))
			}
			fast.Close()
		}
	}
	next := 0
	for next < 5*batch {
		for _, ev := range mustNext(t, slow) {
			if string(ev.Value) != fmt.Sprint(next) {
				t.Fatalf("%s where %d should be", ev.Value, next)
			}
			next++
		}
	}
}

// TestEtcd17780: after a crash during a compaction the revision was lower, as it was taken from the newest key that was left.
func TestEtcd17780TheRevisionSurvivesItsKeys(t *testing.T) {
	s := New()
	s.Apply(1, put("a", "1"))
	s.Apply(1, put("b", "1"))
	s.Apply(1, del("b"))
	s.Apply(1, Txn{Compact: s.Rev()})
	var b bytes.Buffer
	again := New()
	if err := errors.Join(s.Snapshot(&b), again.Restore(&b)); err != nil {
		t.Fatal(err)
	}
	if again.Rev() != 3 {
		t.Fatalf("the revision was 3 and is %d", again.Rev())
	}
	if res := again.Apply(1, put("c", "1")); res.Rev != 4 {
		t.Errorf("goes on at %d", res.Rev)
	}
}

// TestEtcd18089 and 19179: a deletion was missing for watches that began at the revision that was compacted, or were open then.
func TestEtcd18089CompactingOnADeletion(t *testing.T) {
	for _, at := range []Rev{2, 3, 4} {
		s := New()
		open := watch(t, s, "", 0)
		s.Apply(1, put("a", "1"))
		s.Apply(1, put("b", "1"))
		s.Apply(1, del("a"))
		s.Apply(1, put("b", "2"))
		if len(mustNext(t, open)) != 4 {
			t.Fatal("the open watch is behind")
		}
		s.Apply(1, del("b"))
		s.Apply(1, Txn{Compact: at})
		if ev := mustNext(t, open); len(ev) != 1 || !ev[0].Deleted || ev[0].Rev != 5 || string(ev[0].Prev) != "2" {
			t.Errorf("compacted at %d, an open watch sees %+v", at, ev)
		}
		late := watch(t, s, "", at)
		var revs []Rev
		for len(revs) < int(5-at) {
			for _, ev := range mustNext(t, late) {
				revs = append(revs, ev.Rev)
			}
		}
		for i, rev := range revs {
			if rev != at+1+Rev(i) {
				t.Errorf("a watch from the compacted revision %d sees %v", at, revs)
			}
		}
	}
}

// TestEtcd18667: within a transaction, what was compacted could be read on one member and not on another.
func TestEtcd18667WhatIsCompactedIsCompactedForAll(t *testing.T) {
	one, other := New(), New()
	for _, s := range []*Store{one, other} {
		s.Apply(1, put("a", "1"))
		s.Apply(1, put("a", "2"))
		s.Apply(1, put("a", "3"))
	}
	one.Apply(1, Txn{Compact: 2, Ops: []Op{{Key: "b"}}})
	other.Apply(1, Txn{Ops: []Op{{Key: "b"}}})
	other.Apply(1, Txn{Compact: 2})
	for _, s := range []*Store{one, other} {
		if _, _, err := s.Get("a", 1); !errors.Is(err, ErrCompacted) {
			t.Errorf("a get at 1: %v", err)
		}
		if _, err := s.List("", "", 1, 0); !errors.Is(err, ErrCompacted) {
			t.Errorf("a list at 1: %v", err)
		}
		if kv, ok, err := s.Get("a", 2); err != nil || !ok || string(kv.Value) != "2" {
			t.Errorf("a get at 2: %s %v %v", kv.Value, ok, err)
		}
	}
	if one.Hash() != other.Hash() || one.OldestRev() != other.OldestRev() {
		t.Error("the two differ")
	}
}

// TestEtcd20221: a watch of a future revision got what came before it.
func TestEtcd20221AWatchOfTheFutureSeesNoPast(t *testing.T) {
	s := New()
	s.Apply(1, put("a", "1"))
	w := watch(t, s, "", 4)
	for i := range 3 {
		s.Apply(1, put("a", fmt.Sprint("later ", i)))
		nothing(t, w)
	}
	s.Apply(1, put("b", "1"))
	if ev := mustNext(t, w); len(ev) != 1 || ev[0].Rev != 5 || ev[0].Key != "b" {
		t.Errorf("got %v", ev)
	}
}
