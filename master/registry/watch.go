package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"shoal/consensus/store"
	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/internal/fair"
)

// bookmarkEvery is how often an idle watch that asks for bookmarks is told the revision.
const bookmarkEvery = time.Minute

// WatchEvent is one change for one watcher. A bookmark has an Entry that holds nothing but its revision.
type WatchEvent struct {
	Type  watch.EventType
	Entry *Entry
}

// Watcher is a pull-style stream of changes to what a selection holds. Objects that enter the selection are Added,
// those that leave it Deleted.
type Watcher struct {
	r         *Registry
	feed      *feed
	sel       selection
	history   *history
	epoch     int
	rev       store.Rev // the last revision delivered or known not to concern this watch
	initial   []*Entry
	endMark   bool // the initial state ends with an annotated bookmark
	bookmarks bool

	closeOnce sync.Once
	closed    chan struct{}

	mu     sync.Mutex
	behind *store.Watcher // what a Next reads from while it is behind the feed
}

// Watch implements client.Interface.
func (r *Registry) Watch(ctx context.Context, k *api.Kind, o client.ListOptions) (client.Watch, error) {
	w, err := r.WatchEntries(ctx, k, o)
	if err != nil {
		return nil, err
	}
	return objectWatch{w}, nil
}

// WatchEntries is Watch for those who want the encoded forms. A resourceVersion of "" or "0" begins with the objects
// that exist as Added.
func (r *Registry) WatchEntries(ctx context.Context, k *api.Kind, o client.ListOptions) (*Watcher, error) {
	sel, err := newSelection(k, o)
	if err != nil {
		return nil, err
	}
	rev, err := parseRev(o.ResourceVersion)
	if err != nil {
		return nil, err
	}
	wantsState := rev == 0
	if o.SendInitialEvents != nil {
		wantsState = *o.SendInitialEvents
	}
	if wantsState || rev == 0 {
		if err := r.reach(ctx, o.ResourceVersion); err != nil {
			return nil, err
		}
	} else if err := r.applied.wait(ctx, 0); err != nil {
		return nil, fromLog(ctx, err)
	}
	w := &Watcher{
		r: r, sel: sel, rev: rev, bookmarks: o.Bookmarks, closed: make(chan struct{}),
		endMark: o.SendInitialEvents != nil && *o.SendInitialEvents,
	}
	err = r.reading(k, func(f *feed) (alive bool) { return w.join(f, wantsState) })
	if err != nil {
		return nil, err
	}
	return w, nil
}

// join has the watch begin in a feed, unless that has ended.
func (w *Watcher) join(f *feed, wantsState bool) (alive bool) {
	applied := w.r.applied.get()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		return false
	}
	w.feed, w.epoch = f, f.epoch
	w.history = f.joinLocked(w.sel.place)
	if wantsState {
		for _, e := range f.snapshotLocked(w.sel.place) {
			if w.sel.matches(e) {
				w.initial = append(w.initial, e)
			}
		}
	}
	if wantsState || w.rev == 0 {
		w.rev = max(applied, f.rev)
	}
	return true
}

// Next blocks until there is something to deliver. It is not safe for concurrent use. The errors are those of
// client.Watch.
func (w *Watcher) Next(ctx context.Context) ([]WatchEvent, error) {
	if w.initial != nil || w.endMark {
		out := make([]WatchEvent, 0, len(w.initial)+1)
		for _, e := range w.initial {
			out = append(out, WatchEvent{watch.Added, e})
		}
		if w.endMark {
			out = append(out, w.bookmark(map[string]string{metav1.InitialEventsAnnotationKey: "true"}))
		}
		w.initial, w.endMark = nil, false
		return out, nil
	}
	var idle <-chan time.Time
	if w.bookmarks {
		t := time.NewTimer(bookmarkEvery)
		defer t.Stop()
		idle = t.C
	}
	for {
		changes, wake, err := w.pending()
		if err != nil {
			return nil, err
		}
		if wake == nil && len(changes) == 0 { // older than the feed remembers
			if changes, err = w.fromStore(ctx); err != nil {
				return nil, err
			}
		}
		if out := w.events(changes); len(out) > 0 {
			return out, nil
		}
		if len(changes) > 0 || wake == nil {
			continue
		}
		tell, err := w.await(ctx, wake, idle)
		if err != nil {
			return nil, err
		}
		if tell {
			w.rev = max(w.rev, w.quiet())
			return []WatchEvent{w.bookmark(nil)}, nil
		}
	}
}

// await waits for changes, or until it is time to tell that there are none.
func (w *Watcher) await(ctx context.Context, wake <-chan struct{}, idle <-chan time.Time) (tell bool, err error) {
	defer fair.Yield(ctx)()
	select {
	case <-wake:
		return false, nil
	case <-idle:
		return true, nil
	case <-w.closed:
		return false, io.EOF
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// pending returns the changes after w.rev, or the channel to wait on; both nil when only the store has them.
func (w *Watcher) pending() ([]change, <-chan struct{}, error) {
	select {
	case <-w.closed:
		return nil, nil, io.EOF
	default:
	}
	w.feed.mu.RLock()
	defer w.feed.mu.RUnlock()
	for w.epoch != w.feed.epoch {
		w.feed.mu.RUnlock()
		again := w.rejoin()
		w.feed.mu.RLock()
		if !again {
			return nil, nil, w.expired()
		}
	}
	changes, ok := w.history.since(w.rev)
	if !ok {
		return nil, nil, nil
	}
	return changes, w.history.wake, nil
}

// rejoin goes on with a feed that has started over: what happened since is in the store, if that is not too long ago.
func (w *Watcher) rejoin() (alive bool) {
	w.feed.mu.Lock()
	defer w.feed.mu.Unlock()
	if w.feed.ended {
		return false
	}
	w.epoch = w.feed.epoch
	w.history = w.feed.joinLocked(w.sel.place)
	return true
}

// quiet returns a revision up to which nothing is left to deliver, or zero when something is.
func (w *Watcher) quiet() store.Rev {
	applied := w.r.applied.get()
	w.feed.mu.RLock()
	defer w.feed.mu.RUnlock()
	if changes, ok := w.history.since(w.rev); !ok || len(changes) > 0 || w.epoch != w.feed.epoch {
		return 0
	}
	return max(applied, w.feed.rev)
}

// fromStore reads the next changes of a watch that is behind its feed's memory. It may block: then the store has none
// for this kind after w.rev, and the next one to come ends the wait.
func (w *Watcher) fromStore(ctx context.Context) ([]change, error) {
	sw := w.r.cfg.Log.Store().Watch(prefixOf(w.feed.kind, w.sel.place.namespace), w.rev)
	defer sw.Close()
	w.reading(sw)
	defer w.reading(nil)
	resume := fair.Yield(ctx)
	events, err := sw.Next(ctx)
	resume()
	switch {
	case errors.Is(err, store.ErrCompacted):
		return nil, w.expired()
	case errors.Is(err, store.ErrClosed):
		return nil, io.EOF
	case err != nil:
		return nil, fromLog(ctx, err)
	}
	// The feed must not be behind what is delivered, or a List after an event would not show it.
	if err := w.r.applied.wait(ctx, events[len(events)-1].Rev); err != nil {
		return nil, err
	}
	out := make([]change, 0, len(events))
	for _, ev := range events {
		c, err := w.r.decodeChange(w.feed.kind, ev)
		if err != nil {
			return nil, internal(err)
		}
		out = append(out, c)
	}
	return out, nil
}

// reading notes what Close has to close for Next to return.
func (w *Watcher) reading(sw *store.Watcher) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.behind = sw
	select {
	case <-w.closed:
		if sw != nil {
			sw.Close()
		}
	default:
	}
}

func (r *Registry) decodeChange(k *api.Kind, ev store.Event) (change, error) {
	c := change{rev: ev.Rev, typ: watch.Modified}
	var err error
	if ev.Prev != nil {
		if c.before, err = r.decodeEntry(k, ev.Key, ev.Prev, ev.PrevMod); err != nil {
			return c, err
		}
	} else {
		c.typ = watch.Added
	}
	if ev.Deleted {
		if c.before == nil {
			return c, fmt.Errorf("event %d deletes %s, which has no state before", ev.Rev, ev.Key)
		}
		c.typ, c.now = watch.Deleted, c.before.at(k, ev.Rev)
		return c, nil
	}
	c.now, err = r.decodeEntry(k, ev.Key, ev.Value, ev.Rev)
	return c, err
}

// events turns changes into what this watcher sees of them, and moves it past them.
func (w *Watcher) events(changes []change) []WatchEvent {
	var out []WatchEvent
	for _, c := range changes {
		w.rev = c.rev
		now := c.typ != watch.Deleted && w.sel.matches(c.now)
		before := w.sel.matches(c.before)
		switch {
		case now && before:
			out = append(out, WatchEvent{watch.Modified, c.now})
		case now:
			out = append(out, WatchEvent{watch.Added, c.now})
		case before && c.typ == watch.Deleted:
			out = append(out, WatchEvent{watch.Deleted, c.now})
		case before: // left the selection: shown as it was inside, at the revision of leaving
			out = append(out, WatchEvent{watch.Deleted, c.before.at(w.feed.kind, c.rev)})
		}
	}
	return out
}

func (w *Watcher) bookmark(annotations map[string]string) WatchEvent {
	obj := w.feed.kind.New()
	obj.SetAnnotations(annotations)
	return WatchEvent{watch.Bookmark, newEntry(w.feed.kind, client.Key{}, obj, w.rev)}
}

func (w *Watcher) expired() error {
	return apierrors.NewResourceExpired(fmt.Sprintf("too old resource version: %d (%d)", w.rev, w.r.applied.get()))
}

// Close ends the watch.
func (w *Watcher) Close() {
	w.closeOnce.Do(func() {
		close(w.closed)
		w.mu.Lock()
		if w.behind != nil {
			w.behind.Close()
		}
		w.mu.Unlock()
		w.feed.leave(w.sel.place, w.history)
	})
}

// objectWatch shows a Watcher as client.Watch.
type objectWatch struct{ *Watcher }

func (o objectWatch) Next(ctx context.Context) ([]client.Event, error) {
	events, err := o.Watcher.Next(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]client.Event, len(events))
	for i, ev := range events {
		out[i] = client.Event{Type: ev.Type, Object: ev.Entry.Object}
	}
	return out, nil
}
