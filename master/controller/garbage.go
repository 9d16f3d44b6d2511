package controller

import (
	"context"
	"fmt"
	"slices"
	"time"

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

func newReplicaSetGarbage(c Config) loop {
	return newGarbage(c, api.ReplicaSets, c.Caches.ReplicaSets)
}

func newRevisionGarbage(c Config) loop {
	return newGarbage(c, api.ControllerRevisions, c.Caches.Revisions)
}

func newJobGarbage(c Config) loop {
	return newGarbage(c, api.Jobs, c.Caches.Jobs)
}

func newClaimGarbage(c Config) loop {
	return newGarbage(c, api.PersistentVolumeClaims, c.Caches.Claims)
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
		if any(o) != any(none) && len(o.GetOwnerReferences()) > 0 &&
			(any(old) == any(none) || !slices.EqualFunc(old.GetOwnerReferences(), o.GetOwnerReferences(), sameOwner)) {
			g.queue.Add(client.KeyOf(o))
		}
	})
	for _, owner := range c.Caches.owners() {
		owner.onGone(ownerGone)
	}
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
	for _, owner := range g.Caches.owners() {
		if owner.kind != k {
			continue
		}
		if o, ok := owner.get(key); ok && o.GetUID() == ref.UID {
			return !foreground(o), nil
		}
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
