package controller

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/master/controller/quota"
)

// quotas write into the status of each ResourceQuota what is used of it. Nobody is refused by that: the ledger, which it comes from, is ahead of it.
type quotas struct {
	Config
	ledger *quota.Ledger
	queue  client.Queue

	mu      sync.Mutex
	written map[client.Key]time.Time
}

const quotaController = "resourcequota-controller"

// quotaEvery bounds how often one status is written: every creation of an object may change it.
const quotaEvery = 100 * time.Millisecond

func newQuotas(c Config) (loop, *quota.Ledger) {
	q := &quotas{Config: c, queue: client.NewQueue(), written: map[client.Key]time.Time{}}
	q.ledger = quota.NewLedger(c.Caches.Objects, q.changed)
	c.Caches.Objects.OnChange(q.ledger.Changed)
	c.Caches.Objects.OnSettled(q.ledger.Settled)
	c.Caches.Objects.OnChange(func(k *api.Kind, old, o api.Object) {
		if k == api.ResourceQuotas && o == nil {
			q.mu.Lock()
			delete(q.written, client.KeyOf(old))
			q.mu.Unlock()
		}
	})
	return newLoop(quotaController, q.queue, 2, q.reconcile), q.ledger
}

func (q *quotas) changed(key client.Key) {
	q.mu.Lock()
	wait := q.written[key].Add(quotaEvery).Sub(q.Now())
	q.mu.Unlock()
	if wait > 0 {
		q.queue.AddAfter(key, wait)
	} else {
		q.queue.Add(key)
	}
}

func (q *quotas) reconcile(ctx context.Context, key client.Key) (time.Duration, error) {
	o, ok := q.Caches.Objects.of(api.ResourceQuotas.GroupKind()).get(key)
	used, hard, known := q.ledger.Used(key)
	if !ok || !known {
		return 0, nil
	}
	is, ok := o.(*corev1.ResourceQuota)
	if !ok {
		return 0, nil
	}
	q.mu.Lock()
	q.written[key] = q.Now()
	q.mu.Unlock()
	return 0, updateStatus(ctx, q.Config, api.ResourceQuotas, q.Caches.Objects.of(api.ResourceQuotas.GroupKind()), is, func(o *corev1.ResourceQuota) {
		o.Status.Hard, o.Status.Used = hard, used
	})
}
