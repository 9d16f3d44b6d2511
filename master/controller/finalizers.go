package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

// finalizers ends the deletion of objects of one kind that wait for their dependents to be let go or to be gone.
type finalizers[T api.Object] struct {
	Config
	kind  *api.Kind
	cache *client.Cache[T]
	queue client.Queue
}

func newFinalizers[T api.Object](c Config, k *api.Kind, cache *client.Cache[T]) loop {
	f := &finalizers[T]{Config: c, kind: k, cache: cache, queue: client.NewQueue()}
	var none T
	cache.OnChange(func(_, o T) {
		if any(o) != any(none) && o.GetDeletionTimestamp() != nil {
			f.queue.Add(client.KeyOf(o))
		}
	})
	c.Caches.Pods.OnChange(func(old, _ *corev1.Pod) {
		if old != nil {
			f.dependentChanged(old)
		}
	})
	c.Caches.ReplicaSets.OnChange(func(old, _ *appsv1.ReplicaSet) {
		if old != nil {
			f.dependentChanged(old)
		}
	})
	c.Caches.Revisions.OnChange(func(old, _ *appsv1.ControllerRevision) {
		if old != nil {
			f.dependentChanged(old)
		}
	})
	c.Caches.Jobs.OnChange(func(old, _ *batchv1.Job) {
		if old != nil {
			f.dependentChanged(old)
		}
	})
	return loop{name: "finalizers-" + k.Resource, queue: f.queue, reconcile: f.reconcile}
}

func (f *finalizers[T]) dependentChanged(o api.Object) {
	for _, ref := range o.GetOwnerReferences() {
		if isOf(&ref, f.kind) {
			f.queue.Add(client.Key{Namespace: o.GetNamespace(), Name: ref.Name})
		}
	}
}

func (f *finalizers[T]) reconcile(ctx context.Context, key client.Key) (time.Duration, error) {
	o, ok := f.cache.Get(key)
	if !ok || o.GetDeletionTimestamp() == nil {
		return 0, nil
	}
	pods := f.Caches.Pods.ByIndex(byOwner, string(o.GetUID()))
	sets := f.Caches.ReplicaSets.ByIndex(byOwner, string(o.GetUID()))
	jobs := f.Caches.Jobs.ByIndex(byOwner, string(o.GetUID()))
	revisions := f.Caches.Revisions.ByIndex(byOwner, string(o.GetUID()))
	switch {
	case slices.Contains(o.GetFinalizers(), metav1.FinalizerOrphanDependents):
		err := errors.Join(
			orphan(ctx, f.Config, api.Pods, f.Caches.Pods, pods, o),
			orphan(ctx, f.Config, api.ReplicaSets, f.Caches.ReplicaSets, sets, o),
			orphan(ctx, f.Config, api.ControllerRevisions, f.Caches.Revisions, revisions, o),
			orphan(ctx, f.Config, api.Jobs, f.Caches.Jobs, jobs, o),
		)
		if err != nil {
			return 0, err
		}
		return 0, dropFinalizer(ctx, f.Client, f.kind, o, metav1.FinalizerOrphanDependents)
	case slices.Contains(o.GetFinalizers(), metav1.FinalizerDeleteDependents):
		if blocked(pods, o) || blocked(sets, o) || blocked(revisions, o) || blocked(jobs, o) {
			return 0, nil // their going brings us back
		}
		return 0, dropFinalizer(ctx, f.Client, f.kind, o, metav1.FinalizerDeleteDependents)
	}
	return 0, nil
}

// orphan lets dependents of owner go, and returns when the cache shows it.
func orphan[T api.Object](ctx context.Context, c Config, k *api.Kind, cache *client.Cache[T], dependents []T, owner api.Object) error {
	var w written
	err := each(ctx, dependents, func(ctx context.Context, o T) error {
		return setOwners(ctx, c.Client, k, o, without(o, owner.GetUID()), &w)
	})
	return errors.Join(err, w.shown(ctx, cache))
}

// blocked reports whether the deletion of owner waits for one of its dependents.
func blocked[T api.Object](dependents []T, owner api.Object) bool {
	return slices.ContainsFunc(dependents, func(o T) bool {
		return slices.ContainsFunc(o.GetOwnerReferences(), func(r metav1.OwnerReference) bool {
			return r.UID == owner.GetUID() && deref(r.BlockOwnerDeletion)
		})
	})
}

// dropFinalizer lets a deletion go on: the last finalizer that is dropped ends it.
func dropFinalizer(ctx context.Context, c client.Interface, k *api.Kind, o api.Object, finalizer string) error {
	o = o.DeepCopyObject().(api.Object)
	o.SetFinalizers(slices.DeleteFunc(o.GetFinalizers(), func(s string) bool { return s == finalizer }))
	_, err := c.Update(ctx, k, o, client.UpdateOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("end deletion of %s %s/%s: %w", k.Resource, o.GetNamespace(), o.GetName(), err)
	}
	return nil
}
