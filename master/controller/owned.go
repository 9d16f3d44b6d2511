package controller

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

// What the controllers share whose objects own pods or ReplicaSets: who is woken by what, how pods are made, how a status is written.

// follow calls wake with what an object was and with what it is, whenever one of a cache changes.
func follow[T api.Object](cache *client.Cache[T], wake func(api.Object)) {
	var none T
	cache.OnChange(func(old, o T) {
		if any(old) != any(none) {
			wake(old)
		}
		if any(o) != any(none) {
			wake(o)
		}
	})
}

// wakeOwner returns what adds the owner of an object, if it is of kind k; or, of one that nobody controls, those that may adopt it.
func wakeOwner(k *api.Kind, add func(client.Key), adopters func(api.Object) []client.Key) func(api.Object) {
	return func(o api.Object) {
		if ref := metav1.GetControllerOf(o); ref != nil {
			if isOf(ref, k) {
				add(client.Key{Namespace: o.GetNamespace(), Name: ref.Name})
			}
			return
		}
		for _, key := range adopters(o) {
			add(key)
		}
	}
}

// selecting are the objects of a cache whose selectors match o.
func selecting[T api.Object](cache *client.Cache[T], selector func(T) *metav1.LabelSelector) func(o api.Object) []client.Key {
	return func(o api.Object) (keys []client.Key) {
		for _, owner := range cache.List(o.GetNamespace(), nil) {
			if selectorOf(selector(owner)).Matches(labelsOf(o)) {
				keys = append(keys, client.KeyOf(owner))
			}
		}
		return keys
	}
}

// createAll calls create for every item, in growing batches, so that a template that cannot work costs few calls.
func createAll[T any](ctx context.Context, items []T, create func(context.Context, T) error) error {
	for batch := 4; len(items) > 0; batch = min(2*batch, 4*maxParallel) {
		n := min(batch, len(items))
		if err := each(ctx, items[:n], create); err != nil {
			return err
		}
		items = items[n:]
	}
	return nil
}

// mostWaiting is how many pods of one owner may wait for a node. A number that was a slip must not fill the memory of every peer: more are made as these
// get nodes. Kubernetes makes them all.
const mostWaiting = 5000

// room is how many more pods may be made for the owner of pods now.
func room(pods []*corev1.Pod) int {
	n := mostWaiting
	for _, p := range pods {
		if p.Spec.NodeName == "" {
			n--
		}
	}
	return max(0, n)
}

// sayHeld tells that not all pods are made that are wanted.
func (c *Config) sayHeld(controller string, owner api.Object) {
	c.Events.EventFrom(controller, owner, corev1.EventTypeWarning, "TooManyWaiting", "%d pods wait for a node: others are made when those have one", mostWaiting)
}

// createPod makes a pod of owner's, and says so in its events. In a namespace that is on its way out none is made, and that is no error.
func createPod(ctx context.Context, c Config, controller string, owner api.Object, pod *corev1.Pod, w *written) error {
	out, err := c.Client.Create(ctx, api.Pods, pod, client.CreateOptions{})
	if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return nil
	}
	if err != nil {
		if ctx.Err() == nil {
			c.Events.EventFrom(controller, owner, corev1.EventTypeWarning, "FailedCreate", "Error creating: %v", err)
		}
		return fmt.Errorf("create pod: %w", err)
	}
	p, ok := out.(*corev1.Pod)
	if !ok {
		return fmt.Errorf("create pod: answer is a %T", out)
	}
	w.note(p.ResourceVersion)
	c.Events.EventFrom(controller, owner, corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: %s", p.Name)
	return nil
}

// updateStatus writes what set changes in a copy of o, through its status, and returns when the cache shows it. Nothing changed, nothing is written.
func updateStatus[T api.Object](ctx context.Context, c Config, k *api.Kind, cache shows, o T, set func(T)) error {
	changed := o.DeepCopyObject().(T)
	set(changed)
	if equality.Semantic.DeepEqual(o, changed) {
		return nil
	}
	out, err := c.Client.Update(ctx, k, changed, client.UpdateOptions{Subresource: "status"})
	if apierrors.IsNotFound(err) {
		return nil
	}
	var w written
	return errors.Join(noteWrite(out, err, &w, "write status"), w.shown(ctx, cache))
}
