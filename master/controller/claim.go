package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/api"
	"shoal/internal/client"
)

// claim returns the objects of a kind that owner controls, after it has let go those that no longer match it and adopted those that nobody
// controls and do. changed says that it wrote; then the cache shows it, and what is returned is of before.
func claim[T api.Object](ctx context.Context, c Config, ownerKind *api.Kind, owner api.Object, k *api.Kind, cache *client.Cache[T],
	judge func(T) (matches, adoptable bool),
) (mine []T, changed bool, err error) {
	var release, adopt []T
	for _, o := range cache.ByIndex(byController, string(owner.GetUID())) {
		if matches, _ := judge(o); matches {
			mine = append(mine, o)
		} else if o.GetDeletionTimestamp() == nil {
			release = append(release, o)
		}
	}
	if owner.GetDeletionTimestamp() == nil {
		for _, o := range cache.ByIndex(byController, orphansOf(owner.GetNamespace())) {
			if matches, adoptable := judge(o); matches && adoptable {
				adopt = append(adopt, o)
			}
		}
	}
	if len(release)+len(adopt) == 0 {
		return mine, false, nil
	}
	if len(adopt) > 0 {
		// Nothing must be adopted on behalf of what has just been deleted: it would be collected with it.
		now, err := c.Client.Get(ctx, ownerKind, client.KeyOf(owner), client.GetOptions{})
		if err != nil {
			return nil, false, fmt.Errorf("read before adoption: %w", err)
		}
		if now.GetUID() != owner.GetUID() || now.GetDeletionTimestamp() != nil {
			return mine, false, nil
		}
	}
	var w written
	change := func(refs func(T) []metav1.OwnerReference) func(context.Context, T) error {
		return func(ctx context.Context, o T) error { return setOwners(ctx, c.Client, k, o, refs(o), &w) }
	}
	err = errors.Join(
		each(ctx, release, change(func(o T) []metav1.OwnerReference { return without(o, owner.GetUID()) })),
		each(ctx, adopt, change(func(o T) []metav1.OwnerReference {
			return append(slices.Clone(o.GetOwnerReferences()), controllerRef(owner, ownerKind))
		})),
	)
	return mine, true, errors.Join(err, w.shown(ctx, cache))
}

// without are the owners of o but one.
func without(o api.Object, uid types.UID) []metav1.OwnerReference {
	return slices.DeleteFunc(slices.Clone(o.GetOwnerReferences()), func(r metav1.OwnerReference) bool { return r.UID == uid })
}

func controllerRef(o api.Object, k *api.Kind) metav1.OwnerReference {
	return *metav1.NewControllerRef(o, k.GroupVersionKind)
}

// isOf reports whether an owner is of a kind, in whatever version.
func isOf(ref *metav1.OwnerReference, k *api.Kind) bool { return ownerKind(*ref) == k.GroupKind() }

// setOwners replaces the owner references of o as the cache knows it.
func setOwners(ctx context.Context, c client.Interface, k *api.Kind, o api.Object, refs []metav1.OwnerReference, w *written) error {
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": o.GetUID(), "resourceVersion": o.GetResourceVersion(), "ownerReferences": refs,
	}})
	if err != nil {
		return fmt.Errorf("encode owners: %w", err)
	}
	out, err := c.Patch(ctx, k, client.KeyOf(o), client.Patch{Type: types.MergePatchType, Data: body}, client.PatchOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("set owners of %s: %w", o.GetName(), err)
	}
	if m, ok := out.(api.Object); ok {
		w.note(m.GetResourceVersion())
	}
	return nil
}
