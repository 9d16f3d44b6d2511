package peer

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"shoal/consensus/store"
)

func TestMemoryIsFreedOnceAfterABurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s, freed, done := store.New(), atomic.Int64{}, make(chan error)
		go func() { done <- whenCalm(ctx, s, func() { freed.Add(1) }) }()
		write := func() { s.Apply(1, store.Txn{Ops: []store.Op{{Key: "k", Value: []byte(time.Now().String())}}}) }
		expect := func(want int64, when string) {
			t.Helper()
			synctest.Wait()
			if got := freed.Load(); got != want {
				t.Errorf("%s: freed %d times, want %d", when, got, want)
			}
		}
		time.Sleep(time.Hour)
		expect(0, "nothing was ever written")
		for range 60 {
			write()
			time.Sleep(time.Second)
		}
		expect(0, "in the middle of work")
		time.Sleep(2 * calmAfter)
		expect(1, "after it")
		time.Sleep(time.Hour)
		expect(1, "an hour of rest")
		write()
		time.Sleep(2 * calmAfter)
		expect(2, "after more work")
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

var kept [][]byte

func TestMemoryOfABurstIsGivenBack(t *testing.T) {
	var m heap
	m.free()
	before := heldHeap()
	for range 64 {
		kept = append(kept, make([]byte, 1<<20))
	}
	if held := heldHeap(); held < before+60<<20 {
		t.Fatalf("64 MiB make %d of %d", held, before)
	}
	kept = nil
	m.free()
	if left := heldHeap(); left > before+worthFreeing {
		t.Errorf("%d bytes are held after a burst, %d before", left, before)
	}
	floor := m.floor
	m.free()
	if m.floor != floor {
		t.Error("freed again for nothing")
	}
}
