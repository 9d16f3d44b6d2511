package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/api"
	"shoal/internal/client"
)

// garbage deletes objects of one kind whose owners are all gone.
type garbage[T api.Object] struct {
	Config
	kind  *api.Kind
	cache *client.Cache[T]
	queue client.Queue
}

func newPodGarbage(c Config) loop {
	return newGarbage(c, api.Pods, c.Caches.Pods)
}

func newSliceGarbage(c Config) loop {
	return newGarbage[*discoveryv1.EndpointSlice](c, api.EndpointSlices, c.Caches.Slices)
}

func newGarbage[T api.Object](c Config, k *api.Kind, cache *client.Cache[T]) loop {
	g := &garbage[T]{Config: c, kind: k, cache: cache, queue: client.NewQueue()}
	ownerGone := func(uid types.UID) {
		for _, o := range cache.ByIndex(byOwner, string(uid)) {
			g.queue.Add(client.KeyOf(o))
		}
	}
	var none T
	cache.OnChange(func(old, o T) {
		switch {
		case any(o) == any(none):
			ownerGone(old.GetUID())
		case len(o.GetOwnerReferences()) > 0 && (any(old) == any(none) || !slices.EqualFunc(old.GetOwnerReferences(), o.GetOwnerReferences(), sameOwner)):
			g.queue.Add(client.KeyOf(o))
		}
	})
	c.Caches.RCs.OnChange(func(old, o *corev1.ReplicationController) {
		if o == nil {
			ownerGone(old.UID)
		} else if foreground(o) {
			ownerGone(o.UID)
		}
	})
	c.Caches.Services.OnChange(func(old, o *corev1.Service) {
		if o == nil {
			ownerGone(old.UID)
		}
	})
	c.Caches.Nodes.OnChange(func(old, o *corev1.Node) {
		if o == nil {
			ownerGone(old.UID)
		}
	})
	return loop{name: "garbage-" + k.Resource, queue: g.queue, workers: 8, reconcile: g.reconcile}
}

func sameOwner(a, b metav1.OwnerReference) bool { return a.UID == b.UID }

// foreground reports whether o waits for its dependents to go first.
func foreground(o api.Object) bool {
	return o.GetDeletionTimestamp() != nil && slices.Contains(o.GetFinalizers(), metav1.FinalizerDeleteDependents)
}

func (g *garbage[T]) reconcile(ctx context.Context, key client.Key) (time.Duration, error) {
	o, ok := g.cache.Get(key)
	if !ok || o.GetDeletionTimestamp() != nil || len(o.GetOwnerReferences()) == 0 {
		return 0, nil
	}
	var solid, dangling []metav1.OwnerReference
	for _, ref := range o.GetOwnerReferences() {
		there, err := g.ownerIsThere(ctx, o.GetNamespace(), ref)
		if err != nil {
			return 0, err
		}
		if there {
			solid = append(solid, ref)
		} else {
			dangling = append(dangling, ref)
		}
	}
	var w written
	switch {
	case len(dangling) == 0:
		return 0, nil
	case len(solid) > 0:
		if err := setOwners(ctx, g.Client, g.kind, o, solid, &w); err != nil {
			return 0, err
		}
	default:
		if err := deleteObject(ctx, g.Client, g.kind, o, nil, &w); err != nil {
			return 0, err
		}
	}
	return 0, w.shown(ctx, g.cache)
}

// ownerIsThere reports whether the owner exists and is not waiting for its dependents to go. Absence in a cache only
// counts when the store agrees: the cache of owners may be behind that of their dependents.
func (g *garbage[T]) ownerIsThere(ctx context.Context, namespace string, ref metav1.OwnerReference) (bool, error) {
	k := kindOf(ref)
	if k == nil {
		return true, nil // not ours to judge
	}
	key := client.Key{Name: ref.Name}
	if k.Namespaced {
		key.Namespace = namespace
	}
	if o, ok := g.cached(k, key); ok && o.GetUID() == ref.UID {
		return !foreground(o), nil
	}
	o, err := g.Client.Get(ctx, k, key, client.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for owner %s %s: %w", ref.Kind, key, err)
	}
	return o.GetUID() == ref.UID && !foreground(o), nil
}

func (g *garbage[T]) cached(k *api.Kind, key client.Key) (api.Object, bool) {
	switch k {
	case api.ReplicationControllers:
		return g.Caches.RCs.Get(key)
	case api.Services:
		return g.Caches.Services.Get(key)
	case api.Nodes:
		return g.Caches.Nodes.Get(key)
	case api.Pods:
		return g.Caches.Pods.Get(key)
	}
	return nil, false
}

func kindOf(ref metav1.OwnerReference) *api.Kind {
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return nil
	}
	for _, k := range api.Kinds() {
		if k.Kind == ref.Kind && k.Group == gv.Group {
			return k
		}
	}
	return nil
}

// finalizers ends the deletion of ReplicationControllers that wait for their pods to be let go or to be gone.
type finalizers struct {
	Config
	queue client.Queue
}

func newFinalizers(c Config) loop {
	f := &finalizers{Config: c, queue: client.NewQueue()}
	c.Caches.RCs.OnChange(func(_, rc *corev1.ReplicationController) {
		if rc != nil && rc.DeletionTimestamp != nil {
			f.queue.Add(client.KeyOf(rc))
		}
	})
	c.Caches.Pods.OnChange(func(old, p *corev1.Pod) {
		if old == nil {
			return
		}
		if ref := metav1.GetControllerOf(old); ref != nil && ref.Kind == api.ReplicationControllers.Kind {
			f.queue.Add(client.Key{Namespace: old.Namespace, Name: ref.Name})
		}
	})
	return loop{name: "finalizers", queue: f.queue, reconcile: f.reconcile}
}

func (f *finalizers) reconcile(ctx context.Context, key client.Key) (time.Duration, error) {
	rc, ok := f.Caches.RCs.Get(key)
	if !ok || rc.DeletionTimestamp == nil {
		return 0, nil
	}
	pods := f.Caches.Pods.ByIndex(byOwner, string(rc.UID))
	var w written
	switch {
	case slices.Contains(rc.Finalizers, metav1.FinalizerOrphanDependents):
		err := each(ctx, pods, func(ctx context.Context, p *corev1.Pod) error {
			refs := slices.DeleteFunc(slices.Clone(p.OwnerReferences), func(r metav1.OwnerReference) bool { return r.UID == rc.UID })
			return setOwners(ctx, f.Client, api.Pods, p, refs, &w)
		})
		if err := errors.Join(err, w.shown(ctx, f.Caches.Pods)); err != nil {
			return 0, err
		}
		return 0, dropFinalizer(ctx, f.Client, api.ReplicationControllers, rc, metav1.FinalizerOrphanDependents)
	case slices.Contains(rc.Finalizers, metav1.FinalizerDeleteDependents):
		blocking := slices.ContainsFunc(pods, func(p *corev1.Pod) bool {
			return slices.ContainsFunc(p.OwnerReferences, func(r metav1.OwnerReference) bool {
				return r.UID == rc.UID && deref(r.BlockOwnerDeletion)
			})
		})
		if blocking {
			return 0, nil // their going brings us back
		}
		return 0, dropFinalizer(ctx, f.Client, api.ReplicationControllers, rc, metav1.FinalizerDeleteDependents)
	}
	return 0, nil
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
