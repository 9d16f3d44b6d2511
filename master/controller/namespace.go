package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

// namespaces empties Namespaces that are being deleted, says in their conditions what they wait for, and lets them go.
type namespaces struct {
	Config
	queue client.Queue
}

func newNamespaces(c Config) loop {
	n := &namespaces{Config: c, queue: client.NewQueue()}
	c.Caches.Namespaces.OnChange(func(_, ns *corev1.Namespace) {
		if ns != nil && ns.DeletionTimestamp != nil {
			n.queue.Add(client.KeyOf(ns))
		}
	})
	c.Caches.Objects.OnChange(n.contentChanged)
	return newLoop("namespaces", n.queue, 2, n.reconcile)
}

// contentChanged wakes a Namespace that is on its way out: something of it is gone, has come in the last moment, or is held by others now.
func (n *namespaces) contentChanged(k *api.Kind, old, o api.Object) {
	if !k.Namespaced || old != nil && o != nil && slices.Equal(old.GetFinalizers(), o.GetFinalizers()) {
		return
	}
	either := o
	if o == nil {
		either = old
	}
	key := client.Key{Name: either.GetNamespace()}
	if ns, ok := n.Caches.Namespaces.Get(key); ok && ns.DeletionTimestamp != nil {
		n.queue.Add(key)
	}
}

func (n *namespaces) reconcile(ctx context.Context, key client.Key) (time.Duration, error) {
	ns, ok := n.Caches.Namespaces.Get(key)
	if !ok || ns.DeletionTimestamp == nil || !slices.Contains(ns.Spec.Finalizers, corev1.FinalizerKubernetes) {
		return 0, nil
	}
	left := remains{objects: map[string]int{}, finalizers: map[string]int{}}
	failed := n.empty(ctx, ns.Name, &left)
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	if err := n.report(ctx, ns, &left, failed); err != nil || failed != nil {
		return 0, errors.Join(failed, err)
	}
	if len(left.objects) > 0 {
		return 0, nil // their going brings us back
	}
	latest, ok := n.Caches.Namespaces.Get(key)
	if !ok || latest.UID != ns.UID {
		return 0, nil
	}
	latest = latest.DeepCopy()
	latest.Spec.Finalizers = slices.DeleteFunc(latest.Spec.Finalizers, func(f corev1.FinalizerName) bool { return f == corev1.FinalizerKubernetes })
	_, err := n.Client.Update(ctx, api.Namespaces, latest, client.UpdateOptions{Subresource: "finalize", Key: key})
	if err != nil && !apierrors.IsNotFound(err) {
		return 0, fmt.Errorf("finalize namespace %s: %w", ns.Name, err)
	}
	return 0, nil
}

// remains is what a Namespace waits for.
type remains struct {
	objects    map[string]int // of each resource
	finalizers map[string]int // of how many objects
}

// empty deletes all objects of a Namespace and notes those that are still there. One kind that cannot be deleted holds up no other.
func (n *namespaces) empty(ctx context.Context, namespace string, left *remains) error {
	customs, err := customKinds(n.Caches)
	if err != nil {
		return fmt.Errorf("empty namespace %s: %w", namespace, err)
	}
	var errs []error
	for _, k := range append(customs, api.Kinds()...) {
		if !k.Namespaced || k.Stored != nil {
			continue
		}
		still, err := empty(ctx, n.Client, k, namespace)
		if err != nil {
			errs = append(errs, fmt.Errorf("delete %s: %w", k.GVR().GroupResource(), err))
			continue
		}
		for _, o := range still {
			left.objects[k.GVR().GroupResource().String()]++
			for _, f := range o.GetFinalizers() {
				left.finalizers[f]++
			}
		}
	}
	return errors.Join(errs...)
}

// empty deletes all objects of a kind, those in a namespace if one is given, and returns what is still there.
func empty(ctx context.Context, c client.Interface, k *api.Kind, namespace string) ([]api.Object, error) {
	l, err := c.List(ctx, k, client.ListOptions{Namespace: namespace})
	if err != nil || len(l.Items) == 0 {
		return nil, err
	}
	err = each(ctx, l.Items, func(ctx context.Context, o api.Object) error {
		if o.GetDeletionTimestamp() != nil {
			return nil
		}
		var w written
		return deleteObject(ctx, c, k, o, nil, &w)
	})
	if err != nil {
		return nil, err
	}
	l, err = c.List(ctx, k, client.ListOptions{Namespace: namespace})
	if err != nil {
		return nil, err
	}
	return l.Items, nil
}

// report writes what a Namespace waits for into its conditions, in Kubernetes' words.
func (n *namespaces) report(ctx context.Context, ns *corev1.Namespace, left *remains, failed error) error {
	return updateStatus(ctx, n.Config, api.Namespaces, n.Caches.Namespaces, ns, func(o *corev1.Namespace) {
		set := func(t corev1.NamespaceConditionType, is bool, reason, message, fine, otherwise string) {
			c := corev1.NamespaceCondition{Type: t, Status: corev1.ConditionTrue, Reason: reason, Message: message}
			if !is {
				c.Status, c.Reason, c.Message = corev1.ConditionFalse, fine, otherwise
			}
			setNamespaceCondition(&o.Status, c, n.Now())
		}
		set(corev1.NamespaceDeletionDiscoveryFailure, false, "", "", "ResourcesDiscovered", "All resources successfully discovered")
		set(corev1.NamespaceDeletionGVParsingFailure, false, "", "", "ParsedGroupVersions", "All legacy kube types successfully parsed")
		said := ""
		if failed != nil {
			said = "Failed to delete all resource types: " + failed.Error()
		}
		set(corev1.NamespaceDeletionContentFailure, failed != nil, "ContentDeletionFailed", said, "ContentDeleted", "All content successfully deleted, may be waiting on finalization")
		set(corev1.NamespaceContentRemaining, len(left.objects) > 0, "SomeResourcesRemain",
			"Some resources are remaining: "+counts(left.objects, "%s has %d resource instances"), "ContentRemoved", "All content successfully removed")
		set(corev1.NamespaceFinalizersRemaining, len(left.finalizers) > 0, "SomeFinalizersRemain",
			"Some content in the namespace has finalizers remaining: "+counts(left.finalizers, "%s in %d resource instances"), "ContentHasNoFinalizers", "All content-preserving finalizers finished")
	})
}

func counts(n map[string]int, form string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(n)) {
		parts = append(parts, fmt.Sprintf(form, name, n[name]))
	}
	return strings.Join(parts, ", ")
}

// setNamespaceCondition sets a condition, keeping the time of its last change when it does not change.
func setNamespaceCondition(status *corev1.NamespaceStatus, c corev1.NamespaceCondition, now time.Time) {
	c.LastTransitionTime = metav1.NewTime(now).Rfc3339Copy()
	for i := range status.Conditions {
		had := &status.Conditions[i]
		if had.Type != c.Type {
			continue
		}
		if had.Status == c.Status {
			c.LastTransitionTime = had.LastTransitionTime
		}
		if !equality.Semantic.DeepEqual(*had, c) {
			*had = c
		}
		return
	}
	status.Conditions = append(status.Conditions, c)
}
