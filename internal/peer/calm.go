package peer

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"shoal/consensus/store"
)

const (
	// calmAfter is how long nothing must have been written for work to count as over.
	calmAfter = 10 * time.Second
	// worthFreeing is by how many bytes the heap must have grown for a collection to be worth its time.
	worthFreeing = 16 << 20
)

// whenCalm calls do whenever something has been written and then nothing for a while, until ctx ends. It sleeps in a cluster where
// nothing happens.
func whenCalm(ctx context.Context, s *store.Store, do func()) error {
	for {
		seen := s.Rev()
		if s.WaitRev(ctx, seen+1) != nil {
			return nil
		}
		for now := s.Rev(); now != seen; now = s.Rev() {
			seen = now
			select {
			case <-time.After(calmAfter):
			case <-ctx.Done():
				return nil
			}
		}
		do()
	}
}

// heap gives back to the machine what a burst of work has left behind. The Go runtime would keep about as much as is in use, for the
// next burst: on a machine that runs pods, they can use it better. The zero value is ready; it is for one goroutine.
type heap struct{ floor uint64 } // what was held after the last time

func (h *heap) free() {
	if heldHeap() < h.floor+worthFreeing {
		return
	}
	debug.FreeOSMemory()
	h.floor = heldHeap()
}

// heldHeap is how much of the machine's memory the heap holds, in use or not.
func heldHeap() uint64 {
	s := []metrics.Sample{
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
	}
	metrics.Read(s)
	return s[0].Value.Uint64() + s[1].Value.Uint64() + s[2].Value.Uint64()
}
