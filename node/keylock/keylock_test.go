package keylock

import (
	"context"
	"sync"
	"testing"
)

func TestOneAKeyAtATime(t *testing.T) {
	var l Locks
	var all sync.WaitGroup
	count := 0 // guarded by the key alone
	for range 100 {
		all.Go(func() {
			unlock, err := l.Lock(t.Context(), "a")
			if err != nil {
				t.Error(err)
				return
			}
			count++
			unlock()
		})
	}
	all.Wait()
	if count != 100 || len(l.busy) != 0 {
		t.Errorf("%d of 100, %d keys are left", count, len(l.busy))
	}
	unlock, err := l.Lock(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if other, err := l.Lock(t.Context(), "b"); err != nil {
		t.Error(err)
	} else {
		other()
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Lock(ctx, "a"); err == nil {
		t.Error("two have it")
	}
}
