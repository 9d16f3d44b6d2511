package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"

	"shoal/consensus/store"
	"shoal/internal/api"
)

// Run keeps the feeds up to date with the store until ctx ends. Reads wait until it has loaded them.
func (r *Registry) Run(ctx context.Context) error {
	// What is not there yet would look as if it were gone.
	select {
	case <-r.cfg.Log.Ready():
	case <-ctx.Done():
		return nil
	}
	ctx, stop := context.WithCancel(ctx)
	var events sync.WaitGroup
	events.Go(func() { r.events.Run(ctx) })
	defer events.Wait()
	defer stop()
	for {
		err := r.follow(ctx)
		if ctx.Err() != nil {
			return nil
		}
		// The replica was replaced by a snapshot, or fell so far behind that history is gone.
		if !errors.Is(err, store.ErrCompacted) {
			return err
		}
		r.log.Info("feeds start over", "rev", r.cfg.Log.Store().Rev())
	}
}

// follow loads every feed and then applies the store's events, one batch at a time.
func (r *Registry) follow(ctx context.Context) error {
	st := r.cfg.Log.Store()
	rev := st.Rev()
	if definitions := r.serving.Load().feeds[api.CustomResourceDefinitions]; definitions != nil {
		if err := r.load(definitions, rev); err != nil {
			return err
		}
		if err := r.redefine(definitions, nil, rev); err != nil {
			return err
		}
	}
	for _, f := range r.serving.Load().feeds {
		if err := r.load(f, rev); err != nil {
			return err
		}
	}
	w := st.Watch("", rev)
	defer w.Close()
	r.applied.set(rev)
	for {
		events, err := w.Next(ctx)
		if err != nil {
			return err
		}
		if err := r.advance(events); err != nil {
			return err
		}
	}
}

func (r *Registry) load(f *feed, rev store.Rev) error {
	page, err := r.cfg.Log.Store().List(prefixOf(f.kind, ""), "", rev, 0)
	if err != nil {
		return fmt.Errorf("load %s: %w", f.kind.Resource, err)
	}
	entries := make([]*Entry, 0, len(page.KVs))
	for _, kv := range page.KVs {
		e, err := r.decodeEntry(f.kind, kv.Key, kv.Value, kv.Mod)
		if err != nil {
			return err
		}
		entries = append(entries, e)
	}
	f.reset(rev, entries)
	return nil
}

// advance applies one batch of events. A batch ends where a transaction ends, and each feed takes its part of it at
// once, so that no reader sees half a transaction.
func (r *Registry) advance(events []store.Event) error {
	if len(events) == 0 {
		return nil
	}
	parts, now, unlocked := map[*feed][]step{}, r.serving.Load(), false
	for _, ev := range events {
		unlocked = unlocked || r.cfg.Transform.Unlocks(ev.Key)
		path, rest := splitKey(ev.Key)
		var first *Entry
		for _, f := range now.byPath[path] {
			s := step{rev: ev.Rev, key: objectKey(rest)}
			if !ev.Deleted {
				e, err := r.decodeFor(f.kind, ev, first)
				if err != nil {
					return err
				}
				first, s.now = cmp.Or(first, e), e
			}
			parts[f] = append(parts[f], s)
		}
	}
	last := events[len(events)-1].Rev
	if definitions := now.feeds[api.CustomResourceDefinitions]; len(parts[definitions]) > 0 {
		if err := r.redefine(definitions, parts[definitions], last); err != nil {
			return err
		}
	}
	for f, steps := range parts {
		f.advance(steps)
	}
	if unlocked {
		if err := r.unlock(last); err != nil {
			return err
		}
	}
	r.applied.set(last)
	return nil
}

// unlock reads those feeds anew which have objects that this peer had no key to.
func (r *Registry) unlock(rev store.Rev) error {
	for _, f := range r.serving.Load().feeds {
		if !f.locked() {
			continue
		}
		if err := r.load(f, rev); err != nil {
			return err
		}
	}
	return nil
}

// decodeFor returns the entry of an event for a kind. Another version shares what it can with the first, which is of the stored one.
func (r *Registry) decodeFor(k *api.Kind, ev store.Event, first *Entry) (*Entry, error) {
	if k.FromStored == nil || first == nil {
		return r.decodeEntry(k, ev.Key, ev.Value, ev.Rev)
	}
	e := newEntry(k, first.Key, k.FromStored(first.Object), ev.Rev)
	e.size, e.locked = first.size, first.locked
	return e, nil
}

// stored returns an object as the store has it now, sharing the feed's entry when that is as new. Nil means absent.
func (r *Registry) stored(k *api.Kind, skey store.Key) (*Entry, error) {
	kv, ok, err := r.cfg.Log.Store().Get(skey, 0)
	if err != nil {
		return nil, internal(err)
	}
	if !ok {
		return nil, nil
	}
	f, err := r.feed(k)
	if err != nil {
		return nil, err
	}
	_, rest := splitKey(skey)
	if e, _ := f.get(objectKey(rest)); e != nil && e.Rev == kv.Mod {
		return e, nil
	}
	e, err := r.decodeEntry(k, skey, kv.Value, kv.Mod)
	if err != nil {
		return nil, internal(err)
	}
	return e, nil
}
