package registry

import (
	"context"
	"errors"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/consensus/store"
	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/internal/fair"
)

// aheadWait is how long a read waits for a revision that this replica has not reached.
const aheadWait = 3 * time.Second

// Entries is what ListEntries returns: the matching entries at one revision.
type Entries struct {
	Items     []*Entry
	Rev       store.Rev
	Continue  string
	Remaining *int64
}

// Get implements client.Interface.
func (r *Registry) Get(ctx context.Context, k *api.Kind, key client.Key, o client.GetOptions) (api.Object, error) {
	e, err := r.GetEntry(ctx, k, key, o)
	if err != nil {
		return nil, err
	}
	switch o.Subresource {
	case "", "status", "approval":
		return e.Object, nil
	case "scale":
		return ScaleOf(k, e.Object)
	}
	if k.Part(o.Subresource) != nil {
		return e.Object, nil
	}
	return nil, notFound(k, key.Name)
}

// GetEntry is Get for those who want the encoded forms. It ignores o.Subresource.
func (r *Registry) GetEntry(ctx context.Context, k *api.Kind, key client.Key, o client.GetOptions) (*Entry, error) {
	if err := r.reach(ctx, o.ResourceVersion); err != nil {
		return nil, err
	}
	var e *Entry
	err := r.reading(k, func(f *feed) (alive bool) {
		e, alive = f.get(key)
		return alive
	})
	if err == nil && e == nil {
		err = notFound(k, key.Name)
	}
	return e, err
}

// Reach waits until reads here include every write acknowledged before the call.
func (r *Registry) Reach(ctx context.Context) error { return r.reach(ctx, "") }

// reach waits until this replica may answer a read for a resourceVersion: empty is the most recent, "0" is anything.
func (r *Registry) reach(ctx context.Context, resourceVersion string) error {
	if resourceVersion == "" {
		rev, err := r.readIndex(ctx)
		if err != nil {
			return fromLog(ctx, err)
		}
		return fromLog(ctx, r.applied.wait(ctx, rev))
	}
	rev, err := parseRev(resourceVersion)
	if err != nil {
		return err
	}
	return r.reachRev(ctx, rev)
}

// readIndex asks the log without the seat of the request that ctx belongs to.
func (r *Registry) readIndex(ctx context.Context) (store.Rev, error) {
	defer fair.Yield(ctx)()
	return r.cfg.Log.ReadIndex(ctx)
}

func (r *Registry) reachRev(ctx context.Context, rev store.Rev) error {
	bounded, cancel := context.WithTimeout(ctx, aheadWait)
	defer cancel()
	err := r.applied.wait(bounded, rev)
	if err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return tooLarge("Too large resource version: " + rev.String() + ", current: " + r.applied.get().String())
	}
	return fromLog(ctx, err)
}

// List implements client.Interface.
func (r *Registry) List(ctx context.Context, k *api.Kind, o client.ListOptions) (*client.List, error) {
	es, err := r.ListEntries(ctx, k, o)
	if err != nil {
		return nil, err
	}
	out := &client.List{ResourceVersion: es.Rev.String(), Continue: es.Continue, RemainingItemCount: es.Remaining}
	out.Items = make([]api.Object, len(es.Items))
	for i, e := range es.Items {
		out.Items[i] = e.Object
	}
	return out, nil
}

// ListEntries is List for those who want the encoded forms.
func (r *Registry) ListEntries(ctx context.Context, k *api.Kind, o client.ListOptions) (*Entries, error) {
	f, err := r.feed(k)
	if err != nil {
		return nil, err
	}
	sel, err := newSelection(k, o)
	if err != nil {
		return nil, err
	}
	if o.Continue != "" {
		if o.ResourceVersion != "" && o.ResourceVersion != "0" {
			return nil, badRequest("specifying resource version is not allowed when using continue")
		}
		tok, err := parseContinue(o.Continue)
		if err != nil {
			return nil, err
		}
		// The page may be asked of another peer than the one that began the list.
		if err := r.reachRev(ctx, tok.Rev); err != nil {
			return nil, err
		}
		return r.listAt(f, &sel, tok.Rev, tok.from(k), o.Limit)
	}
	if err := r.reach(ctx, o.ResourceVersion); err != nil {
		return nil, err
	}
	if o.ResourceVersionMatch == metav1.ResourceVersionMatchExact {
		rev, err := parseRev(o.ResourceVersion)
		if err != nil {
			return nil, err
		}
		return r.listAt(f, &sel, rev, "", o.Limit)
	}
	items, rev, err := r.snapshot(k, &sel)
	if err != nil {
		return nil, err
	}
	out := &Entries{Items: items, Rev: rev}
	if n := int(o.Limit); n > 0 && len(items) > n {
		out.Items = items[:n:n]
		out.Continue = continueToken{Rev: rev, After: items[n-1].Key}.String()
		if sel.all() {
			left := int64(len(items) - n)
			out.Remaining = &left
		}
	}
	return out, nil
}

// snapshot returns what matches now, in key order, with the revision that "now" is.
func (r *Registry) snapshot(k *api.Kind, sel *selection) (items []*Entry, rev store.Rev, err error) {
	err = r.reading(k, func(f *feed) (alive bool) {
		// Read before the lock: the feed includes at least this, and what it includes beyond is in f.rev.
		rev = r.applied.get()
		f.mu.RLock()
		defer f.mu.RUnlock()
		rev = max(rev, f.rev)
		items = f.snapshotLocked(sel.place)
		return !f.ended
	})
	if err != nil || sel.all() {
		return items, rev, err
	}
	return slices.DeleteFunc(items, func(e *Entry) bool { return !sel.matches(e) }), rev, nil
}

// listAt reads a page from the store as it was at rev.
func (r *Registry) listAt(f *feed, sel *selection, rev store.Rev, from store.Key, limit int64) (*Entries, error) {
	const chunk = 500
	out := &Entries{Rev: rev}
	prefix := prefixOf(f.kind, sel.place.namespace)
	for {
		page, err := r.cfg.Log.Store().List(prefix, from, rev, chunk)
		if err != nil {
			return nil, expiredList(err)
		}
		for _, kv := range page.KVs {
			_, rest := splitKey(kv.Key)
			e, _ := f.get(objectKey(rest))
			if e == nil || e.Rev != kv.Mod {
				if e, err = r.decodeEntry(f.kind, kv.Key, kv.Value, kv.Mod); err != nil {
					return nil, internal(err)
				}
			}
			if !sel.matches(e) {
				continue
			}
			if limit > 0 && int64(len(out.Items)) == limit {
				out.Continue = continueToken{Rev: rev, After: out.Items[limit-1].Key}.String()
				return out, nil
			}
			out.Items = append(out.Items, e)
		}
		if !page.More {
			return out, nil
		}
		from = page.KVs[len(page.KVs)-1].Key + "\x00"
	}
}
