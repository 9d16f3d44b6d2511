package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/api"
	"shoal/internal/client"
)

// garbage deletes objects whose owners are all gone, and ends the deletion of owners that wait for what they own to be let go or to be gone. It
// looks after every kind that is served. The rules are those of Kubernetes' garbage collector.
type garbage struct {
	Config
	queue client.QueueOf[member]
}

// member is an object by its name.
type member struct {
	schema.GroupKind
	client.Key
}

func (m member) String() string { return m.GroupKind.String() + " " + m.Key.String() }

const garbageCollector = "garbage-collector-controller"

func newGarbage(c Config) loop {
	g := &garbage{Config: c, queue: client.NewQueueOf[member]()}
	c.Caches.Objects.OnChange(g.changed)
	c.Caches.Objects.OnSettled(g.settled)
	return newLoop(garbageCollector, g.queue, 8, g.reconcile)
}

func (g *garbage) add(k *api.Kind, o api.Object) {
	g.queue.Add(member{k.GroupKind(), client.KeyOf(o)})
}

// changed wakes whom a change of an object concerns: itself, what it owns when it goes, and its owners that wait for it.
func (g *garbage) changed(k *api.Kind, old, o api.Object) {
	switch {
	case o == nil:
		g.wakeOwned(old.GetUID())
	case holds(o):
		g.add(k, o)
		if foreground(o) && (old == nil || !foreground(old)) {
			g.wakeOwned(o.GetUID())
		}
	case len(o.GetOwnerReferences()) > 0 && (old == nil || !slices.EqualFunc(old.GetOwnerReferences(), o.GetOwnerReferences(), sameOwner)):
		g.add(k, o)
	}
	if old != nil && (o == nil || !slices.EqualFunc(old.GetOwnerReferences(), o.GetOwnerReferences(), sameBlock)) {
		g.wakeWaiting(old)
	}
}

func sameOwner(a, b metav1.OwnerReference) bool { return a.UID == b.UID }

func sameBlock(a, b metav1.OwnerReference) bool {
	return a.UID == b.UID && deref(a.BlockOwnerDeletion) == deref(b.BlockOwnerDeletion)
}

func (g *garbage) wakeOwned(uid types.UID) {
	for _, o := range g.Caches.Objects.ownedBy(uid) {
		g.add(o.kind, o.Object)
	}
}

// wakeWaiting wakes the owners of o that wait for it.
func (g *garbage) wakeWaiting(o api.Object) {
	for _, ref := range o.GetOwnerReferences() {
		if k := g.Caches.Objects.of(ownerKind(ref)); k != nil {
			if owner, ok := k.get(ownerKey(k.kind, ref, o)); ok && holds(owner) {
				g.add(k.kind, owner)
			}
		}
	}
}

// settled looks once more at what objects of a kind own: some may have gone unseen. And at who waited for it to be known.
func (g *garbage) settled(k *api.Kind) {
	for _, all := range g.Caches.Objects.all() {
		for _, o := range all.list("") {
			if holds(o) || slices.ContainsFunc(o.GetOwnerReferences(), func(r metav1.OwnerReference) bool { return ownerKind(r) == k.GroupKind() }) {
				g.add(all.kind, o)
			}
		}
	}
}

// ownerKind returns what an owner is. One whose apiVersion cannot be read is of no kind.
func ownerKind(ref metav1.OwnerReference) schema.GroupKind {
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return schema.GroupKind{}
	}
	return schema.GroupKind{Group: gv.Group, Kind: ref.Kind}
}

// ownerKey is where an owner of o is, if it is of kind k.
func ownerKey(k *api.Kind, ref metav1.OwnerReference, o api.Object) client.Key {
	key := client.Key{Name: ref.Name}
	if k.Namespaced {
		key.Namespace = o.GetNamespace()
	}
	return key
}

// holds reports whether o is being deleted and we have the last word.
func holds(o api.Object) bool {
	return o.GetDeletionTimestamp() != nil && (slices.Contains(o.GetFinalizers(), metav1.FinalizerDeleteDependents) ||
		slices.Contains(o.GetFinalizers(), metav1.FinalizerOrphanDependents))
}

// foreground reports whether o waits for its dependents to go first.
func foreground(o api.Object) bool {
	return o.GetDeletionTimestamp() != nil && slices.Contains(o.GetFinalizers(), metav1.FinalizerDeleteDependents)
}

func (g *garbage) reconcile(ctx context.Context, m member) (time.Duration, error) {
	k := g.Caches.Objects.of(m.GroupKind)
	if k == nil {
		return 0, nil
	}
	o, ok := k.get(m.Key)
	switch {
	case !ok:
		return 0, nil
	case holds(o):
		return 0, g.finish(ctx, k, o)
	case o.GetDeletionTimestamp() != nil || len(o.GetOwnerReferences()) == 0:
		return 0, nil
	}
	return 0, g.judge(ctx, k, o)
}

// judge deletes an object that has owners, and none of them is left.
func (g *garbage) judge(ctx context.Context, k *kindObjects, o api.Object) error {
	var solid []metav1.OwnerReference
	dangling, waiting := false, false
	for _, ref := range o.GetOwnerReferences() {
		is, err := g.look(ctx, k, o, ref)
		if err != nil {
			return err
		}
		switch is {
		case there:
			solid = append(solid, ref)
		case waits:
			waiting = true
		case gone:
			dangling = true
		}
	}
	var w written
	switch {
	case !dangling && !waiting:
		return nil
	case len(solid) > 0:
		if err := setOwners(ctx, g.Client, k.kind, o, solid, &w); err != nil {
			return err
		}
		return w.shown(ctx, k)
	}
	how := metav1.DeletePropagationBackground
	if waiting {
		below := g.Caches.Objects.ownedBy(o.GetUID())
		if len(below) > 0 {
			how = metav1.DeletePropagationForeground // the owner waits for them, too
		}
		// Two that own each other would wait for each other for ever.
		if slices.ContainsFunc(below, func(d owned) bool { return foreground(d.Object) }) {
			if err := setOwners(ctx, g.Client, k.kind, o, unblocking(o), &w); err != nil {
				return err
			}
			if err := w.shown(ctx, k); err != nil {
				return err
			}
			if latest, ok := k.get(client.KeyOf(o)); ok {
				o = latest
			}
		}
	}
	if err := g.delete(ctx, k.kind, o, how, &w); err != nil {
		return err
	}
	return w.shown(ctx, k)
}

// delete deletes o as the cache has it: somebody may have given it another owner. What its finalizers say of its dependents counts for more than how.
func (g *garbage) delete(ctx context.Context, k *api.Kind, o api.Object, how metav1.DeletionPropagation, w *written) error {
	switch {
	case slices.Contains(o.GetFinalizers(), metav1.FinalizerOrphanDependents):
		how = metav1.DeletePropagationOrphan
	case slices.Contains(o.GetFinalizers(), metav1.FinalizerDeleteDependents):
		how = metav1.DeletePropagationForeground
	}
	uid, rev := o.GetUID(), o.GetResourceVersion()
	out, err := g.Client.Delete(ctx, k, client.KeyOf(o), client.DeleteOptions{
		Propagation: &how, Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &rev},
	})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return noteWrite(out, err, w, "delete "+describe(k, o))
}

// whereabouts is what became of an owner.
type whereabouts int

const (
	there whereabouts = iota
	waits             // for its dependents to go
	gone
)

// look finds out about an owner. Absence in a cache only counts when the store agrees: the cache of owners may be behind that of their dependents.
func (g *garbage) look(ctx context.Context, k *kindObjects, o api.Object, ref metav1.OwnerReference) (whereabouts, error) {
	owners := g.Caches.Objects.of(ownerKind(ref))
	switch {
	case owners != nil:
	case g.Caches.Objects.isPast(ownerKind(ref)):
		return gone, nil
	default:
		return there, nil // not ours to judge
	}
	if owners.kind.Namespaced && !k.kind.Namespaced {
		g.Events.EventFrom(garbageCollector, o, corev1.EventTypeWarning, "OwnerRefInvalidNamespace",
			"ownerRef %s %s is of a kind that is in namespaces, which an object of the whole cluster cannot name", ref.Kind, ref.Name)
		return there, nil
	}
	key := ownerKey(owners.kind, ref, o)
	owner, ok := owners.get(key)
	if !ok || owner.GetUID() != ref.UID {
		latest, err := g.Client.Get(ctx, owners.kind, key, client.GetOptions{})
		if apierrors.IsNotFound(err) {
			return gone, nil
		}
		if err != nil {
			return gone, fmt.Errorf("look for owner %s %s: %w", ref.Kind, key, err)
		}
		owner = latest
	}
	switch {
	case owner.GetUID() != ref.UID:
		return gone, nil
	case foreground(owner):
		return waits, nil
	}
	return there, nil
}

// finish lets the deletion of an owner go on once what it owns has been let go, or is gone.
func (g *garbage) finish(ctx context.Context, k *kindObjects, o api.Object) error {
	if !g.Caches.Objects.isSettled() {
		return nil // that brings it back
	}
	below := g.Caches.Objects.ownedBy(o.GetUID())
	if slices.Contains(o.GetFinalizers(), metav1.FinalizerOrphanDependents) {
		err := each(ctx, below, func(ctx context.Context, d owned) error {
			var w written
			return errors.Join(setOwners(ctx, g.Client, d.kind, d.Object, without(d.Object, o.GetUID()), &w), w.shown(ctx, d))
		})
		if err != nil {
			return err
		}
		return dropFinalizer(ctx, g.Client, k.kind, o, metav1.FinalizerOrphanDependents)
	}
	blocked := false
	for _, d := range below {
		if blocks(d.Object, o.GetUID()) {
			blocked = true // its going brings us back
		}
		if d.GetDeletionTimestamp() == nil {
			g.add(d.kind, d.Object)
		}
	}
	if blocked {
		return nil
	}
	return dropFinalizer(ctx, g.Client, k.kind, o, metav1.FinalizerDeleteDependents)
}

// blocks reports whether an owner waits for o.
func blocks(o api.Object, owner types.UID) bool {
	return slices.ContainsFunc(o.GetOwnerReferences(), func(r metav1.OwnerReference) bool { return r.UID == owner && deref(r.BlockOwnerDeletion) })
}

// unblocking are the owners of o, none of which is to wait for it.
func unblocking(o api.Object) []metav1.OwnerReference {
	refs, no := slices.Clone(o.GetOwnerReferences()), false
	for i := range refs {
		refs[i].BlockOwnerDeletion = &no
	}
	return refs
}

// dropFinalizer lets a deletion go on: the last finalizer that is dropped ends it.
func dropFinalizer(ctx context.Context, c client.Interface, k *api.Kind, o api.Object, finalizer string) error {
	o = o.DeepCopyObject().(api.Object)
	o.SetFinalizers(slices.DeleteFunc(o.GetFinalizers(), func(s string) bool { return s == finalizer }))
	_, err := c.Update(ctx, k, o, client.UpdateOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("end deletion of %s: %w", describe(k, o), err)
	}
	return nil
}
