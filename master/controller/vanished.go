package controller

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"shoal/internal/api"
	"shoal/internal/client"
)

// vanished removes pods that are bound to Nodes that do not exist. Keys are Nodes' names.
type vanished struct {
	Config
	queue client.Queue
}

// vanishedGrace lets a Node that was deleted while its peer runs come back before its pods are given up.
const vanishedGrace = 5 * time.Second

func newVanished(c Config) loop {
	v := &vanished{Config: c, queue: client.NewQueue()}
	c.Caches.Nodes.OnChange(func(old, n *corev1.Node) {
		if n == nil {
			v.queue.AddAfter(client.Key{Name: old.Name}, vanishedGrace)
		}
	})
	c.Caches.Pods.OnChange(func(_, p *corev1.Pod) {
		if p == nil || p.Spec.NodeName == "" {
			return
		}
		key := client.Key{Name: p.Spec.NodeName}
		if _, ok := c.Caches.Nodes.Get(key); !ok {
			v.queue.AddAfter(key, vanishedGrace)
		}
	})
	return newLoop("vanished-nodes", v.queue, 1, v.reconcile)
}

func (v *vanished) reconcile(ctx context.Context, key client.Key) (time.Duration, error) {
	if _, ok := v.Caches.Nodes.Get(key); ok {
		return 0, nil
	}
	pods := v.Caches.Pods.ByIndex(byNode, key.Name)
	if len(pods) == 0 {
		return 0, nil
	}
	if _, err := v.Client.Get(ctx, api.Nodes, key, client.GetOptions{}); !apierrors.IsNotFound(err) {
		if err != nil {
			return 0, fmt.Errorf("look for node %s: %w", key.Name, err)
		}
		return 0, nil
	}
	return 0, each(ctx, pods, func(ctx context.Context, p *corev1.Pod) error {
		var w written
		return deleteObject(ctx, v.Client, api.Pods, p, new(int64), &w)
	})
}
