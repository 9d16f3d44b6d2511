package registry

import (
	"context"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"shoal/consensus/store"
)

// Events are remarks: many, small, and never urgent. Their writes share transactions, so that however many there are, the log has few
// entries of them and other writes do not queue behind: the first goes at once, and what comes within eventsApart waits for the next.
const (
	eventsApart   = 200 * time.Millisecond
	eventsWaiting = 2048 // writes that may wait; more are refused
	eventsAtOnce  = 512  // writes in one transaction
	eventsTimeout = 10 * time.Second
)

// eventWriter gathers the writes of Events until Run has them agreed.
type eventWriter struct {
	propose func(ctx context.Context, t store.Txn) (store.Result, error)
	// holds reports whether a condition holds in what was agreed so far.
	holds func(store.Compare) bool
	// surplus returns what deletes the Events over those that may be kept, but none that is written just now.
	surplus func(written []store.Op) []store.Op
	wake    chan struct{}

	mu      sync.Mutex
	waiting []*eventWrite
	stopped bool
}

// eventWrite is one caller's transaction and its answer.
type eventWrite struct {
	t    store.Txn
	done chan struct{} // closed when res and err are there
	res  store.Result
	err  error
}

// Propose has t, which touches one key, agreed and applied together with others. An error leaves open whether it will be, unless the
// caller gave up while t was still waiting.
func (w *eventWriter) Propose(ctx context.Context, t store.Txn) (store.Result, error) {
	one := &eventWrite{t: t, done: make(chan struct{})}
	w.mu.Lock()
	switch {
	case w.stopped:
		w.mu.Unlock()
		return store.Result{}, errStopping()
	case len(w.waiting) >= eventsWaiting:
		w.mu.Unlock()
		return store.Result{}, apierrors.NewTooManyRequests("too many Events are waiting to be written", 1)
	}
	w.waiting = append(w.waiting, one)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
	select {
	case <-one.done:
	case <-ctx.Done():
		if w.withdraw(one) {
			return store.Result{}, context.Cause(ctx)
		}
		<-one.done // bounded by eventsTimeout
	}
	return one.res, one.err
}

// withdraw takes a write back that still waits.
func (w *eventWriter) withdraw(one *eventWrite) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.Index(w.waiting, one)
	if i < 0 {
		return false
	}
	w.waiting = slices.Delete(w.waiting, i, i+1)
	return true
}

// Run writes until ctx ends, and then refuses what waits. It sleeps while nothing does.
func (w *eventWriter) Run(ctx context.Context) {
	defer w.stop()
	for {
		select {
		case <-w.wake:
		case <-ctx.Done():
			return
		}
		for batch := w.take(eventsAtOnce); len(batch) > 0; batch = w.take(eventsAtOnce) {
			w.write(ctx, batch)
			apart := time.NewTimer(eventsApart)
			select {
			case <-apart.C:
			case <-ctx.Done():
				apart.Stop()
				return
			}
		}
	}
}

func (w *eventWriter) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	for _, one := range w.waiting {
		one.answer(store.Result{}, errStopping())
	}
	w.waiting = nil
}

func errStopping() error { return Unavailable("this peer is stopping") }

// take removes up to n writes from those that wait, no two of them of one key: the later one must see what the first did.
func (w *eventWriter) take(n int) []*eventWrite {
	w.mu.Lock()
	defer w.mu.Unlock()
	var batch, rest []*eventWrite
	keys := map[store.Key]bool{}
	for _, one := range w.waiting {
		key := one.t.Ops[0].Key
		if len(batch) == n || keys[key] {
			rest = append(rest, one)
			continue
		}
		keys[key] = true
		batch = append(batch, one)
	}
	w.waiting = rest
	return batch
}

// write has a batch agreed. When the condition of one does not hold, all whose do not get their answer, and the others wait again.
func (w *eventWriter) write(ctx context.Context, batch []*eventWrite) {
	ctx, cancel := context.WithTimeout(ctx, eventsTimeout)
	defer cancel()
	t := merge(batch)
	t.Ops = append(t.Ops, w.surplus(t.Ops)...)
	res, err := w.propose(ctx, t)
	switch {
	case err != nil || res.Stale || !res.OK && res.Failed < 0:
		for _, one := range batch {
			one.answer(res, err)
		}
	case res.OK:
		revs := res.Revs
		for _, one := range batch {
			n := len(one.t.Ops)
			one.answer(store.Result{OK: true, Rev: res.Rev, Revs: revs[:n:n], Failed: -1}, nil)
			revs = revs[n:]
		}
	default:
		w.refuse(batch, res)
	}
}

// refuse answers those of a batch whose conditions do not hold, now that it was refused, and lets the others wait first in line.
func (w *eventWriter) refuse(batch []*eventWrite, res store.Result) {
	culprit, compare := owner(batch, res.Failed)
	var again []*eventWrite
	for i, one := range batch {
		failed := compare
		if i != culprit {
			failed = slices.IndexFunc(one.t.Compares, func(c store.Compare) bool { return !w.holds(c) })
		}
		if failed < 0 {
			again = append(again, one)
			continue
		}
		one.answer(store.Result{Rev: res.Rev, Failed: failed}, nil)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = append(again, w.waiting...)
}

func (e *eventWrite) answer(res store.Result, err error) {
	e.res, e.err = res, err
	close(e.done)
}

// merge makes one transaction of a batch. It is good in any term: what was remarked in the last one is still true.
func merge(batch []*eventWrite) store.Txn {
	var t store.Txn
	for _, one := range batch {
		t.Compares = append(t.Compares, one.t.Compares...)
		t.Ops = append(t.Ops, one.t.Ops...)
	}
	return t
}

// owner returns whose the compare of a merged transaction is, and which of its own.
func owner(batch []*eventWrite, compare int) (write, own int) {
	for i, one := range batch {
		if compare < len(one.t.Compares) {
			return i, compare
		}
		compare -= len(one.t.Compares)
	}
	return 0, 0 // not reached: the store answers with one of ours
}

// holds reports whether a condition holds in this peer's replica.
func (r *Registry) holds(c store.Compare) bool {
	kv, ok, err := r.cfg.Log.Store().Get(c.Key, 0)
	if err != nil || !ok {
		return err != nil || c.Mod == 0
	}
	return kv.Mod == c.Mod
}
