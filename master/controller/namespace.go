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

	"shoal/internal/api"
	"shoal/internal/client"
)

// namespaces empties Namespaces that are being deleted, then lets them go.
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
	// What is left behind goes by itself only where something must happen first: pods end, controllers wait for them.
	c.Caches.Pods.OnChange(func(old, p *corev1.Pod) { n.contentGone(old, p == nil) })
	c.Caches.RCs.OnChange(func(old, rc *corev1.ReplicationController) { n.contentGone(old, rc == nil) })
	c.Caches.ReplicaSets.OnChange(func(old, rs *appsv1.ReplicaSet) { n.contentGone(old, rs == nil) })
	c.Caches.Deployments.OnChange(func(old, d *appsv1.Deployment) { n.contentGone(old, d == nil) })
	c.Caches.DaemonSets.OnChange(func(old, ds *appsv1.DaemonSet) { n.contentGone(old, ds == nil) })
	c.Caches.StatefulSets.OnChange(func(old, o *appsv1.StatefulSet) { n.contentGone(old, o == nil) })
	c.Caches.Jobs.OnChange(func(old, job *batchv1.Job) { n.contentGone(old, job == nil) })
	c.Caches.CronJobs.OnChange(func(old, o *batchv1.CronJob) { n.contentGone(old, o == nil) })
	c.Caches.Claims.OnChange(func(old, claim *corev1.PersistentVolumeClaim) { n.contentGone(old, claim == nil) })
	return loop{name: "namespaces", queue: n.queue, workers: 2, reconcile: n.reconcile}
}

func (n *namespaces) contentGone(o api.Object, gone bool) {
	if !gone {
		return
	}
	key := client.Key{Name: o.GetNamespace()}
	if ns, ok := n.Caches.Namespaces.Get(key); ok && ns.DeletionTimestamp != nil {
		n.queue.Add(key)
	}
}

// goesByItself reports whether the last object of a kind, when it goes, brings the namespace back here.
func goesByItself(k *api.Kind) bool {
	switch k {
	case api.Pods, api.ReplicationControllers, api.ReplicaSets, api.Deployments, api.DaemonSets, api.StatefulSets, api.Jobs, api.CronJobs, api.PersistentVolumeClaims:
		return true
	}
	return false
}

var errContentRemains = errors.New("content remains")

func (n *namespaces) reconcile(ctx context.Context, key client.Key) (time.Duration, error) {
	ns, ok := n.Caches.Namespaces.Get(key)
	if !ok || ns.DeletionTimestamp == nil || !slices.Contains(ns.Spec.Finalizers, corev1.FinalizerKubernetes) {
		return 0, nil
	}
	waiting := false
	customs, err := customKinds(n.Caches)
	if err != nil {
		return 0, fmt.Errorf("empty namespace %s: %w", ns.Name, err)
	}
	for _, k := range append(customs, api.Kinds()...) {
		if !k.Namespaced || k.Stored != nil {
			continue
		}
		left, err := empty(ctx, n.Client, k, ns.Name)
		if err != nil {
			return 0, fmt.Errorf("empty namespace %s of %s: %w", ns.Name, k.Resource, err)
		}
		if left == 0 {
			continue
		}
		if !goesByItself(k) {
			return 0, fmt.Errorf("%d %s of namespace %s: %w", left, k.Resource, ns.Name, errContentRemains)
		}
		waiting = true
	}
	if waiting {
		return 0, nil // their going brings us back
	}
	ns = ns.DeepCopy()
	ns.Spec.Finalizers = slices.DeleteFunc(ns.Spec.Finalizers, func(f corev1.FinalizerName) bool { return f == corev1.FinalizerKubernetes })
	_, err = n.Client.Update(ctx, api.Namespaces, ns, client.UpdateOptions{Subresource: "finalize", Key: key})
	if err != nil && !apierrors.IsNotFound(err) {
		return 0, fmt.Errorf("finalize namespace %s: %w", ns.Name, err)
	}
	return 0, nil
}

// empty deletes all objects of a kind, those in a namespace if one is given, and returns how many are still there.
func empty(ctx context.Context, c client.Interface, k *api.Kind, namespace string) (int, error) {
	l, err := c.List(ctx, k, client.ListOptions{Namespace: namespace})
	if err != nil || len(l.Items) == 0 {
		return 0, err
	}
	err = each(ctx, l.Items, func(ctx context.Context, o api.Object) error {
		if o.GetDeletionTimestamp() != nil {
			return nil
		}
		var w written
		return deleteObject(ctx, c, k, o, nil, &w)
	})
	if err != nil {
		return 0, err
	}
	l, err = c.List(ctx, k, client.ListOptions{Namespace: namespace})
	if err != nil {
		return 0, err
	}
	return len(l.Items), nil
}
