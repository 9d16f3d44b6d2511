package registry

import (
	"bytes"
	"context"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/consensus/store"
	"shoal/internal/api"
	"shoal/internal/client"
)

// Delete implements client.Interface.
func (r *Registry) Delete(ctx context.Context, k *api.Kind, key client.Key, o client.DeleteOptions) (api.Object, error) {
	e, _, err := r.DeleteEntry(ctx, k, key, o)
	if err != nil {
		return nil, err
	}
	return e.Object, nil
}

// DeleteEntry is Delete that also says whether the object is gone; if not, it is marked and something still holds it.
func (r *Registry) DeleteEntry(ctx context.Context, k *api.Kind, key client.Key, o client.DeleteOptions) (*Entry, bool, error) {
	skey := keyOf(k, key)
	confirmed := false
	for range attempts {
		old, err := r.latest(ctx, k, key)
		if err != nil {
			return nil, false, err
		}
		if err := checkPreconditions(k, old, o.Preconditions); err != nil {
			if confirmed {
				return nil, false, err
			}
			confirmed = true
			if r.reachStore(ctx) != nil {
				return nil, false, err
			}
			if now, serr := r.stored(k, skey); serr != nil || now == nil || now.Rev == old.Rev {
				return nil, false, err
			}
			continue
		}
		a := &Admission{Operation: OpDelete, Kind: k, Key: key, Old: old.Object, DryRun: o.DryRun}
		if err := r.cfg.Admit(ctx, a); err != nil {
			return nil, false, err
		}
		marked := r.mark(k, old, o)
		gone := deletionDue(marked)
		if o.DryRun {
			return newEntry(k, key, marked, old.Rev), gone, nil
		}
		var e *Entry
		var again bool
		if gone {
			e, again, err = r.remove(ctx, k, key, old, clone(old))
		} else {
			e, again, err = r.replace(ctx, k, key, old, marked)
		}
		if err != nil {
			return nil, false, err
		}
		if !again {
			return e, gone, nil
		}
	}
	return nil, false, stale(k, key.Name)
}

func checkPreconditions(k *api.Kind, old *Entry, p *metav1.Preconditions) error {
	if p == nil {
		return nil
	}
	if p.UID != nil && *p.UID != old.Object.GetUID() {
		return conflict(k, old.Key.Name, "Precondition failed: UID in precondition: %v, UID in object meta: %v", *p.UID, old.Object.GetUID())
	}
	if p.ResourceVersion != nil && *p.ResourceVersion != old.Rev.String() {
		return conflict(k, old.Key.Name, "Precondition failed: ResourceVersion in precondition: %v, ResourceVersion in object meta: %v",
			*p.ResourceVersion, old.Rev)
	}
	return nil
}

// mark returns the object as a deletion leaves it when something holds it: a grace period or finalizers.
func (r *Registry) mark(k *api.Kind, old *Entry, o client.DeleteOptions) api.Object {
	obj := clone(old)
	if k.Collected() { // else nobody would do what is to be waited for
		setPropagation(obj, o.Propagation)
	}
	if f := k.DeletionFinalizer; f != "" && obj.GetDeletionTimestamp() == nil && !slices.Contains(obj.GetFinalizers(), f) {
		obj.SetFinalizers(append(slices.Clone(obj.GetFinalizers()), f))
	}
	grace := graceOf(obj, o.GracePeriodSeconds)
	now := r.now()
	first := obj.GetDeletionTimestamp() == nil
	if first {
		end := metav1.NewTime(now.Add(time.Duration(grace) * time.Second))
		obj.SetDeletionTimestamp(&end)
		obj.SetDeletionGracePeriodSeconds(&grace)
	} else if had := obj.GetDeletionGracePeriodSeconds(); had != nil && o.GracePeriodSeconds != nil && grace < *had {
		// Asked again: the end may only come nearer, counted from the first time.
		start := obj.GetDeletionTimestamp().Add(-time.Duration(*had) * time.Second)
		end := metav1.NewTime(start.Add(time.Duration(grace) * time.Second))
		obj.SetDeletionTimestamp(&end)
		obj.SetDeletionGracePeriodSeconds(&grace)
	}
	switch {
	case k.MarkDeleted != nil:
		k.MarkDeleted(obj, now)
		obj.SetDeletionGracePeriodSeconds(nil)
	case first && obj.GetGeneration() > 0:
		obj.SetGeneration(obj.GetGeneration() + 1)
	}
	return obj
}

// setPropagation records what is to happen to the objects that this one owns.
func setPropagation(obj api.Object, p *metav1.DeletionPropagation) {
	if p == nil {
		return
	}
	var want string
	switch *p {
	case metav1.DeletePropagationOrphan:
		want = metav1.FinalizerOrphanDependents
	case metav1.DeletePropagationForeground:
		want = metav1.FinalizerDeleteDependents
	}
	fs := slices.DeleteFunc(slices.Clone(obj.GetFinalizers()), func(f string) bool {
		return f != want && (f == metav1.FinalizerOrphanDependents || f == metav1.FinalizerDeleteDependents)
	})
	if want != "" && !slices.Contains(fs, want) {
		fs = append(fs, want)
	}
	if len(fs) == 0 {
		fs = nil
	}
	obj.SetFinalizers(fs)
}

// replace stores obj over old; again means that another write came between.
func (r *Registry) replace(ctx context.Context, k *api.Kind, key client.Key, old *Entry, obj api.Object) (e *Entry, again bool, err error) {
	skey := keyOf(k, key)
	if same, err := sameValue(k, obj, old); err != nil || same {
		return old, false, err
	}
	value, err := r.value(k, skey, obj)
	if err != nil {
		return nil, false, err
	}
	res, err := r.propose(ctx, store.Txn{
		Compares: []store.Compare{{Key: skey, Mod: old.Rev}},
		Ops:      []store.Op{{Key: skey, Value: value}},
	})
	if err != nil {
		return nil, false, err
	}
	if !res.OK {
		return nil, true, nil
	}
	return newEntry(k, key, obj, res.Revs[0]), false, nil
}

// sameValue reports whether obj, which loses its resourceVersion, would be stored as old is.
func sameValue(k *api.Kind, obj api.Object, old *Entry) (bool, error) {
	now, err := encodeStored(k, obj)
	if err != nil {
		return false, internal(err)
	}
	was, err := encodeStored(k, clone(old))
	if err != nil {
		return false, internal(err)
	}
	return bytes.Equal(now, was), nil
}

// remove deletes old with its claims and returns last, the object's last state, at the revision of the deletion.
func (r *Registry) remove(ctx context.Context, k *api.Kind, key client.Key, old *Entry, last api.Object) (e *Entry, again bool, err error) {
	skey := keyOf(k, key)
	t := store.Txn{
		Compares: []store.Compare{{Key: skey, Mod: old.Rev}},
		Ops:      []store.Op{{Key: skey, Delete: true}},
	}
	claim(&t, nil, claimsOf(old.Object), skey)
	res, err := r.propose(ctx, t)
	if err != nil {
		return nil, false, err
	}
	if !res.OK {
		return nil, true, nil
	}
	return newEntry(k, key, last, res.Revs[0]), false, nil
}
