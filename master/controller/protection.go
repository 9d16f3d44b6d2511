package controller

import (
	"context"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

// claims lets claims go that are being deleted when no pod uses them any more. A pod that is not bound to a Node does not
// count: its machine would not start it with such a claim.
type claims struct {
	Config
	queue client.Queue
}

func newClaims(c Config) loop {
	p := &claims{Config: c, queue: client.NewQueue()}
	c.Caches.Claims.OnChange(func(_, claim *corev1.PersistentVolumeClaim) {
		if claim != nil && claim.DeletionTimestamp != nil {
			p.queue.Add(client.KeyOf(claim))
		}
	})
	c.Caches.Pods.OnChange(func(old, pod *corev1.Pod) {
		if pod != nil {
			return
		}
		for _, name := range api.ClaimsOf(old) {
			p.queue.Add(client.Key{Namespace: old.Namespace, Name: name})
		}
	})
	return newLoop("claims", p.queue, 1, p.reconcile)
}

func (p *claims) reconcile(ctx context.Context, key client.Key) (time.Duration, error) {
	claim, ok := p.Caches.Claims.Get(key)
	if !ok || claim.DeletionTimestamp == nil || !slices.Contains(claim.Finalizers, api.FinalizerClaim) {
		return 0, nil
	}
	for _, pod := range p.Caches.UsersOf(key) {
		if pod.Spec.NodeName != "" {
			return 0, nil // its end brings us back
		}
	}
	return 0, dropFinalizer(ctx, p.Client, api.PersistentVolumeClaims, claim, api.FinalizerClaim)
}

// volumes lets volumes go that are being deleted when they are not bound to a claim.
type volumes struct {
	Config
	queue client.Queue
}

func newVolumes(c Config) loop {
	p := &volumes{Config: c, queue: client.NewQueue()}
	c.Caches.Volumes.OnChange(func(_, v *corev1.PersistentVolume) {
		if v != nil && v.DeletionTimestamp != nil {
			p.queue.Add(client.KeyOf(v))
		}
	})
	return newLoop("volumes", p.queue, 1, p.reconcile)
}

func (p *volumes) reconcile(ctx context.Context, key client.Key) (time.Duration, error) {
	v, ok := p.Caches.Volumes.Get(key)
	if !ok || v.DeletionTimestamp == nil || v.Status.Phase == corev1.VolumeBound || !slices.Contains(v.Finalizers, api.FinalizerVolume) {
		return 0, nil
	}
	return 0, dropFinalizer(ctx, p.Client, api.PersistentVolumes, v, api.FinalizerVolume)
}
