// Package linear records histories of calls on registers, and judges whether the calls could have been made one after the other, each at
// a moment between its begin and its end, on registers that are alone in the world. It is for tests.
package linear

import (
	"cmp"
	"math"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// What a call does.
const (
	Put  = "put"
	Read = "read"
	Swap = "swap"
)

// Call is one call on a register. No value is written twice; an empty one is nothing.
type Call struct {
	Key  string
	What string
	Old  string // Swap: what must be there
	New  string // Put, Swap: what is there afterwards
}

// Answer is how a call ended. What surely had no effect is no part of a history.
type Answer struct {
	Unknown bool // it may have happened, or happen yet
	Swapped bool
	Read    string
}

// model is what registers do that are alone in the world.
var model = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byKey := map[string][]porcupine.Operation{}
		for _, op := range history {
			key := op.Input.(Call).Key
			byKey[key] = append(byKey[key], op)
		}
		var all [][]porcupine.Operation
		for _, ops := range byKey {
			all = append(all, ops)
		}
		return all
	},
	Init: func() any { return "" },
	Step: func(state, in, out any) (bool, any) {
		now, a, b := state.(string), in.(Call), out.(Answer)
		switch {
		case a.What == Put:
			return true, a.New
		case a.What == Read:
			return b.Read == now, now
		case a.Old == now:
			return b.Unknown || b.Swapped, a.New
		default:
			return b.Unknown || !b.Swapped, now
		}
	},
}

// History is safe for concurrent use. Begins and ends are numbered in the order in which they were seen.
type History struct {
	seen atomic.Int64

	mu      sync.Mutex
	ops     []porcupine.Operation
	unknown int
}

// Begin numbers the begin of a call.
func (h *History) Begin() int64 { return h.seen.Add(1) }

// End records a call that has ended.
func (h *History) End(client int, begin int64, in Call, out Answer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	end := h.seen.Add(1)
	if out.Unknown {
		end = math.MaxInt64 // it may still happen
		h.unknown++
	}
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: in, Call: begin, Output: out, Return: end})
}

// Judge fails the test when the history is impossible, cannot be judged within a minute, or is shorter than it should be.
func (h *History) Judge(t testing.TB, least int) {
	t.Helper()
	if got := porcupine.CheckOperationsTimeout(model, h.ops, time.Minute); got != porcupine.Ok {
		t.Errorf("a history of %d calls: %s", len(h.ops), got)
	}
	t.Logf("%d calls, %d with an outcome that nobody knows", len(h.ops), h.unknown)
	if len(h.ops) < least {
		t.Errorf("%d calls are too few to show anything", len(h.ops))
	}
}

// Chaos returns from which seed on a test is to make histories, and for how long at least: CHAOS_SEED, else 1, and its share of CHAOS_TIME, else
// none.
func Chaos(t testing.TB, share float64) (seed int64, span time.Duration) {
	t.Helper()
	seed, err := strconv.ParseInt(cmp.Or(os.Getenv("CHAOS_SEED"), "1"), 10, 64)
	if err != nil {
		t.Fatal("CHAOS_SEED: ", err)
	}
	if span, err = time.ParseDuration(cmp.Or(os.Getenv("CHAOS_TIME"), "0")); err != nil {
		t.Fatal("CHAOS_TIME: ", err)
	}
	return seed, time.Duration(float64(span) * share)
}
