package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
)

func TestPutOfTheSameValueChangesNothing(t *testing.T) {
	s := New()
	s.Apply(1, put("a", "1"))
	res := s.Apply(1, put("a", "1"))
	if !res.OK || res.Rev != 1 || res.Revs[0] != 1 || s.HistoryLen() != 1 {
		t.Fatalf("got %+v", res)
	}
}

func TestADeletionHasItsOwnRevisionAndRecreationStartsAnew(t *testing.T) {
	s := New()
	s.Apply(1, put("a", "1"))
	if res := s.Apply(1, del("a")); res.Revs[0] != 2 {
		t.Fatalf("got %+v", res)
	}
	if res := s.Apply(1, del("a")); res.Rev != 2 || res.Revs[0] != 0 {
		t.Fatalf("got %+v", res)
	}
	s.Apply(1, put("a", "1"))
	kv, ok, err := s.Get("a", 0)
	if err != nil || !ok || kv.Create != 3 || kv.Mod != 3 {
		t.Fatalf("got %+v %v %v", kv, ok, err)
	}
}

func TestATxnOfAnotherTermDoesNothing(t *testing.T) {
	s := New()
	txn := put("a", "1")
	txn.Term, txn.Compact = 4, 1
	if res := s.Apply(5, txn); !res.Stale || res.OK || s.Rev() != 0 {
		t.Fatalf("got %+v", res)
	}
	if res := s.Apply(4, txn); res.Stale || !res.OK || s.OldestRev() != 1 {
		t.Fatalf("got %+v", res)
	}
}

func TestNoListShowsHalfATxn(t *testing.T) {
	s := New()
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				page, err := s.List("", "", 0, 0)
				if err != nil || len(page.KVs) == 1 || len(page.KVs) == 2 && !bytes.Equal(page.KVs[0].Value, page.KVs[1].Value) {
					t.Errorf("list: %v %v", page, err)
					return
				}
			}
		})
	}
	for i := range 5000 {
		v := fmt.Append(nil, i)
		s.Apply(1, Txn{Ops: []Op{{Key: "a", Value: v}, {Key: "b", Value: v}}})
	}
	close(stop)
	wg.Wait()
}

func TestOldVersionsAreForgotten(t *testing.T) {
	s := New()
	for i := range 100 {
		s.Apply(1, put("a", fmt.Sprint(i)))
		s.Apply(1, put("b", fmt.Sprint(i)))
	}
	s.Apply(1, del("b"))
	s.Apply(1, Txn{Compact: s.Rev()})
	if n := s.tree.Len(); n != 1 {
		t.Errorf("%d items in the index, want 1", n)
	}
	it, _ := s.tree.Get(item{key: "a"})
	if it.head.prev.Load() != nil {
		t.Error("an old version is still reachable")
	}
}

func TestWaitRevReturnsWhenTheRevisionIsReached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New()
		got := make(chan Rev, 8)
		for _, rev := range []Rev{3, 1, 2, 2} {
			go func() {
				if err := s.WaitRev(t.Context(), rev); err != nil {
					t.Error(err)
				}
				got <- rev
			}()
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			if err := s.WaitRev(ctx, 2); !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled wait: %v", err)
			}
			got <- 0
		}()
		synctest.Wait()
		cancel()
		synctest.Wait()
		for i, n := range []int{1, 2, 4, 5} {
			synctest.Wait()
			if len(got) != n {
				t.Fatalf("at revision %d, %d waits are over, want %d", s.Rev(), len(got), n)
			}
			s.Apply(1, put("a", fmt.Sprint(i)))
		}
		if n := len(s.reached.waiters); n != 0 {
			t.Errorf("%d waiters left behind", n)
		}
	})
}

func TestHashTellsStatesApartAndForgetsHowTheyWereReached(t *testing.T) {
	a, b := New(), New()
	for _, s := range []*Store{a, b} {
		s.Apply(1, put("a", "1"))
		s.Apply(1, put("b", "2"))
	}
	b.Apply(1, Txn{Compact: 2})
	roundTrip(t, b)
	if a.Hash() != b.Hash() {
		t.Error("equal states differ")
	}
	a.Apply(1, put("c", "1"))
	a.Apply(1, del("c"))
	if a.Hash() == b.Hash() {
		t.Error("different revisions look alike")
	}
}

func TestADamagedSnapshotIsRefusedAndChangesNothing(t *testing.T) {
	s := New()
	for i := range 50 {
		s.Apply(1, put(Key(fmt.Sprintf("key-%d", i)), "value"))
	}
	var b bytes.Buffer
	if err := s.Snapshot(&b); err != nil {
		t.Fatal(err)
	}
	good := b.Bytes()
	state := bytes.Index(good, []byte(pastMagic))
	target := New()
	target.Apply(1, put("mine", "1"))
	before := target.Hash()
	try := func(name string, data []byte) {
		t.Helper()
		if err := target.Restore(bytes.NewReader(data)); !errors.Is(err, ErrSnapshot) {
			t.Errorf("%s: %v", name, err)
		}
		if target.Hash() != before {
			t.Fatalf("%s changed the store", name)
		}
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x20
		try(fmt.Sprintf("byte %d", i), bad)
		if i != state {
			try(fmt.Sprintf("cut at %d", i), good[:i])
		}
	}
	// Just the state is a snapshot of before there was a past in them.
	if err := New().Restore(bytes.NewReader(good[:state])); err != nil {
		t.Error(err)
	}
	if err := target.Restore(bytes.NewReader(good)); err != nil || target.Hash() != s.Hash() {
		t.Errorf("the good one: %v", err)
	}
}

func TestASnapshotIsOfTheMomentItWasCaptured(t *testing.T) {
	s := New()
	s.Apply(1, put("a", "1"))
	want := s.Hash()
	image := s.Capture()
	s.Apply(1, put("a", "2"))
	r, w := io.Pipe()
	go func() { w.CloseWithError(image.Write(w)) }()
	other := New()
	if err := other.Restore(r); err != nil || other.Hash() != want {
		t.Errorf("restored %v at %d", err, other.Rev())
	}
}

func FuzzRestore(f *testing.F) {
	s := New()
	s.Apply(1, put("a", "1"))
	s.Apply(1, put("b", "2"))
	var b bytes.Buffer
	if err := s.Snapshot(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, data []byte) {
		s := New()
		if err := s.Restore(bytes.NewReader(data)); err != nil && s.Rev() != 0 {
			t.Error("a refused snapshot was used")
		}
	})
}
