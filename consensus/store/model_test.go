package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// model is the store as one would write it without a thought for time or memory: a copy of everything at each revision.
type model struct {
	states []map[Key]KV // by revision
	floor  Rev
}

func newModel() *model { return &model{states: []map[Key]KV{{}}} }

func (m *model) rev() Rev { return Rev(len(m.states) - 1) }

func (m *model) apply(term uint64, t Txn) (Result, []Event) {
	now := m.states[m.rev()]
	if t.Term != 0 && t.Term != term {
		return Result{Rev: m.rev(), Failed: -1, Stale: true}, nil
	}
	for i, c := range t.Compares {
		if now[c.Key].Mod != c.Mod {
			return Result{Rev: m.rev(), Failed: i}, nil
		}
	}
	res := Result{OK: true, Failed: -1}
	var events []Event
	for _, op := range t.Ops {
		now = maps.Clone(m.states[m.rev()])
		old, had := now[op.Key]
		if op.Delete && !had {
			res.Revs = append(res.Revs, 0)
			continue
		}
		if !op.Delete && had && bytes.Equal(old.Value, op.Value) {
			res.Revs = append(res.Revs, old.Mod)
			continue
		}
		rev := m.rev() + 1
		ev := Event{Rev: rev, Key: op.Key, Prev: old.Value, PrevMod: old.Mod, Create: rev, Deleted: op.Delete}
		if had {
			ev.Create = old.Create
		}
		if op.Delete {
			delete(now, op.Key)
		} else {
			ev.Value = op.Value
			now[op.Key] = KV{Key: op.Key, Value: op.Value, Create: ev.Create, Mod: rev}
		}
		m.states = append(m.states, now)
		events = append(events, ev)
		res.Revs = append(res.Revs, rev)
	}
	m.floor = max(m.floor, min(t.Compact, m.rev()))
	res.Rev = m.rev()
	return res, events
}

func (m *model) list(prefix, from Key, at Rev) []KV {
	if at == 0 {
		at = m.rev()
	}
	var out []KV
	for k, kv := range m.states[at] {
		if strings.HasPrefix(string(k), string(prefix)) && k >= from {
			out = append(out, kv)
		}
	}
	slices.SortFunc(out, func(a, b KV) int { return strings.Compare(string(a.Key), string(b.Key)) })
	return out
}

// reader follows one prefix as a client would: it lists, then watches, and lists again when told to.
type reader struct {
	prefix  Key
	w       *Watcher
	state   map[Key]KV
	pos     Rev
	relists int
}

func (r *reader) list(t *testing.T, s *Store) {
	t.Helper()
	if r.w != nil {
		r.w.Close()
		r.relists++
	}
	page, err := s.List(r.prefix, "", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	r.state = map[Key]KV{}
	for _, kv := range page.KVs {
		r.state[kv.Key] = kv
	}
	r.pos = page.Rev
	r.w = s.Watch(r.prefix, page.Rev)
}

// pull takes everything there is and checks each event against what the reader has and what the model says happened.
func (r *reader) pull(t *testing.T, s *Store, all map[Rev]Event, txnOf map[Rev]int) {
	t.Helper()
	done, cancel := context.WithCancel(t.Context())
	cancel()
	lastTxn := -1
	for {
		events, err := r.w.Next(done)
		if errors.Is(err, ErrCompacted) {
			r.list(t, s)
			return
		}
		if err != nil {
			break
		}
		if lastTxn == txnOf[events[0].Rev] {
			t.Fatalf("transaction split between two batches at %d", events[0].Rev)
		}
		for _, ev := range events {
			if ev.Rev <= r.pos {
				t.Fatalf("event %d again or late, at %d", ev.Rev, r.pos)
			}
			r.pos = ev.Rev
			if diff := cmp.Diff(all[ev.Rev], ev); diff != "" {
				t.Fatalf("event %d (-model +store):\n%s", ev.Rev, diff)
			}
			if ev.Deleted {
				delete(r.state, ev.Key)
			} else {
				r.state[ev.Key] = KV{Key: ev.Key, Value: ev.Value, Create: ev.Create, Mod: ev.Rev}
			}
			lastTxn = txnOf[ev.Rev]
		}
	}
	want := map[Key]KV{}
	page, err := s.List(r.prefix, "", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range page.KVs {
		want[kv.Key] = kv
	}
	if diff := cmp.Diff(want, r.state); diff != "" {
		t.Fatalf("watching %q missed something (-list +watched):\n%s", r.prefix, diff)
	}
}

func randomTxn(rng *rand.Rand, m *model) Txn {
	key := func() Key { return Key(fmt.Sprintf("/%c/%d", 'a'+rng.Intn(3), rng.Intn(6))) }
	var t Txn
	switch rng.Intn(6) {
	case 0:
		t.Term = uint64(rng.Intn(3))
	case 1:
		k := key()
		t.Compares = append(t.Compares, Compare{Key: k, Mod: m.states[m.rev()][k].Mod})
		if rng.Intn(3) == 0 {
			t.Compares = append(t.Compares, Compare{Key: key(), Mod: Rev(rng.Intn(20))})
		}
	}
	for range rng.Intn(4) {
		op := Op{Key: key(), Delete: rng.Intn(4) == 0}
		if !op.Delete {
			op.Value = []byte{byte('0' + rng.Intn(4))}
		}
		t.Ops = append(t.Ops, op)
	}
	if rng.Intn(40) == 0 {
		t.Compact = Rev(rng.Intn(int(m.rev()) + 10))
	}
	return t
}

func TestStoreIsItsModel(t *testing.T) {
	for seed := range int64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { runModel(t, rand.New(rand.NewSource(seed))) })
	}
}

func runModel(t *testing.T, rng *rand.Rand) {
	s, m := New(), newModel()
	all, txnOf := map[Rev]Event{}, map[Rev]int{}
	var readers []*reader
	for _, p := range []Key{"", "/a/", "/b/", "/b/1", "/c/", "/none/"} {
		r := &reader{prefix: p}
		r.list(t, s)
		readers = append(readers, r)
	}
	for i := range 600 {
		term := uint64(1 + rng.Intn(2))
		txn := randomTxn(rng, m)
		want, events := m.apply(term, txn)
		for _, ev := range events {
			all[ev.Rev], txnOf[ev.Rev] = ev, i
		}
		if diff := cmp.Diff(want, s.Apply(term, txn)); diff != "" {
			t.Fatalf("step %d: result (-model +store):\n%s", i, diff)
		}
		if rng.Intn(5) == 0 {
			readers[rng.Intn(len(readers))].pull(t, s, all, txnOf)
		}
		if rng.Intn(100) == 0 {
			roundTrip(t, s) // which brings the past, too, as it is short
		}
		compareReads(t, rng, s, m)
	}
	for _, r := range readers {
		r.pull(t, s, all, txnOf)
		if r.prefix == "/none/" && r.relists > 0 {
			t.Errorf("a watch without events was ended %d times", r.relists)
		}
		r.w.Close()
	}
	if n := len(s.watches.groups); n != 0 {
		t.Errorf("%d groups left behind", n)
	}
}

// roundTrip restores s from its own snapshot.
func roundTrip(t *testing.T, s *Store) {
	t.Helper()
	before := s.Hash()
	var b bytes.Buffer
	if err := s.Snapshot(&b); err != nil {
		t.Fatal(err)
	}
	if err := s.Restore(&b); err != nil {
		t.Fatal(err)
	}
	if s.Hash() != before {
		t.Fatal("a snapshot changed the state")
	}
}

func compareReads(t *testing.T, rng *rand.Rand, s *Store, m *model) {
	t.Helper()
	if s.Rev() != m.rev() || s.OldestRev() != m.floor || s.Len() != len(m.states[m.rev()]) {
		t.Fatalf("at %d with %d keys back to %d, want %d, %d, %d", s.Rev(), s.Len(), s.OldestRev(), m.rev(), len(m.states[m.rev()]), m.floor)
	}
	at := Rev(rng.Intn(int(m.rev()) + 2))
	prefix := []Key{"", "/a/", "/b/", "/b/1"}[rng.Intn(4)]
	from := []Key{"", "/a/3", "/b/2"}[rng.Intn(3)]
	page, err := s.List(prefix, from, at, 0)
	switch {
	case at > m.rev():
		if !errors.Is(err, ErrFuture) {
			t.Fatalf("list at %d of %d: %v", at, m.rev(), err)
		}
		return
	case at != 0 && at < m.floor:
		if !errors.Is(err, ErrCompacted) {
			t.Fatalf("list at %d below %d: %v", at, m.floor, err)
		}
		return
	case err != nil:
		t.Fatal(err)
	}
	want := m.list(prefix, from, at)
	if diff := cmp.Diff(want, page.KVs); diff != "" {
		t.Fatalf("list %q at %d (-model +store):\n%s", prefix, at, diff)
	}
	for _, kv := range want {
		got, ok, err := s.Get(kv.Key, at)
		if err != nil || !ok || !cmp.Equal(got, kv) {
			t.Fatalf("get %s at %d: %v %v %v", kv.Key, at, got, ok, err)
		}
	}
	if limit := rng.Intn(4) + 1; limit < len(want) {
		page, err := s.List(prefix, from, at, limit)
		if err != nil || !page.More || !cmp.Equal(page.KVs, want[:limit]) {
			t.Fatalf("list of %d: %v %v %v", limit, page.KVs, page.More, err)
		}
	}
}
