package controller

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/labels"

	"shoal/internal/api"
	"shoal/internal/client"
)

// endpoints writes the Endpoints and EndpointSlices of Services that have a selector, from the pods it selects.
type endpoints struct {
	endpointWriter
	queue client.Queue
}

func newEndpoints(c Config) loop {
	e := &endpoints{endpointWriter{c, "endpointslice-controller.k8s.io"}, client.NewQueue()}
	c.Caches.Services.OnChange(func(old, s *corev1.Service) {
		if s == nil {
			s = old
		}
		e.queue.Add(client.KeyOf(s))
	})
	c.Caches.Pods.OnChange(func(old, p *corev1.Pod) {
		if old != nil && p != nil && sameBackend(old, p) {
			return
		}
		if old != nil {
			e.podChanged(old)
		}
		if p != nil && (old == nil || !equality.Semantic.DeepEqual(old.Labels, p.Labels)) {
			e.podChanged(p)
		}
	})
	c.Caches.Nodes.OnChange(func(old, n *corev1.Node) {
		if old == nil || n == nil || zoneOf(old) == zoneOf(n) {
			return
		}
		for _, s := range c.Caches.Services.List("", nil) {
			e.queue.Add(client.KeyOf(s))
		}
	})
	c.Caches.Slices.OnChange(func(old, s *discoveryv1.EndpointSlice) {
		if s == nil {
			s = old
		}
		if s.Labels[discoveryv1.LabelManagedBy] == e.manager {
			e.queue.Add(client.Key{Namespace: s.Namespace, Name: s.Labels[discoveryv1.LabelServiceName]})
		}
	})
	c.Caches.Endpoints.OnChange(func(old, o *corev1.Endpoints) {
		if o == nil {
			o = old
		}
		e.queue.Add(client.KeyOf(o))
	})
	return newLoop("endpoints", e.queue, 5, e.reconcile)
}

// podChanged queues the Services that select p.
func (e *endpoints) podChanged(p *corev1.Pod) {
	for _, s := range e.Caches.Services.List(p.Namespace, nil) {
		if len(s.Spec.Selector) > 0 && labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(p.Labels)) {
			e.queue.Add(client.KeyOf(s))
		}
	}
}

// sameBackend reports whether no Service can see a difference between two states of a pod.
func sameBackend(a, b *corev1.Pod) bool {
	return a.UID == b.UID && api.IsPodReady(a) == api.IsPodReady(b) && api.IsPodTerminal(a) == api.IsPodTerminal(b) &&
		(a.DeletionTimestamp == nil) == (b.DeletionTimestamp == nil) &&
		a.Spec.NodeName == b.Spec.NodeName && a.Status.PodIP == b.Status.PodIP &&
		equality.Semantic.DeepEqual(a.Status.PodIPs, b.Status.PodIPs) && equality.Semantic.DeepEqual(a.Labels, b.Labels)
}

func (e *endpoints) reconcile(ctx context.Context, key client.Key) (time.Duration, error) {
	s, ok := e.Caches.Services.Get(key)
	if !ok || s.DeletionTimestamp != nil {
		return 0, e.remove(ctx, key)
	}
	if len(s.Spec.Selector) == 0 || s.Spec.Type == corev1.ServiceTypeExternalName {
		return 0, nil // somebody else says what stands behind it
	}
	pods := e.Caches.Pods.List(key.Namespace, labels.SelectorFromSet(s.Spec.Selector))
	backends := backendsOf(s, pods, e.zone)
	subsets, truncated := renderSubsets(s, backends)
	return 0, e.write(ctx, s, groupBackends(s.Spec.IPFamilies, backends), subsets, truncated)
}

// remove deletes what a Service that is gone left behind.
func (e *endpoints) remove(ctx context.Context, key client.Key) error {
	var rev written
	if o, ok := e.Caches.Endpoints.Get(key); ok && o.Labels[endpointsManagedBy] == endpointsManager {
		if err := deleteObject(ctx, e.Client, api.Endpoints, o, nil, &rev); err != nil {
			return err
		}
	}
	return each(ctx, e.slicesOf(key), func(ctx context.Context, s *discoveryv1.EndpointSlice) error {
		return deleteObject(ctx, e.Client, api.EndpointSlices, s, nil, &rev)
	})
}

func (e *endpoints) zone(node string) string {
	if n, ok := e.Caches.Nodes.Get(client.Key{Name: node}); ok {
		return zoneOf(n)
	}
	return ""
}

func zoneOf(n *corev1.Node) string { return n.Labels[corev1.LabelTopologyZone] }
