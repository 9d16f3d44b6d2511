package controller

import (
	"context"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

// jobOrphans lets pods go that no Job will count any more, because it is gone or has let them go.
type jobOrphans struct {
	Config
	jobs  *jobs // how a pod is released
	queue client.Queue
}

func newJobOrphans(c Config) loop {
	o := &jobOrphans{Config: c, jobs: &jobs{Config: c}, queue: client.NewQueue()}
	c.Caches.Pods.OnChange(func(_, p *corev1.Pod) {
		if p != nil && tracked(p) && !o.counted(p) {
			o.queue.Add(client.KeyOf(p))
		}
	})
	c.Caches.Jobs.OnChange(func(old, job *batchv1.Job) {
		if job == nil {
			for _, p := range c.Caches.Pods.ByIndex(byController, string(old.UID)) {
				o.queue.Add(client.KeyOf(p))
			}
		}
	})
	return newLoop("job-orphans", o.queue, 1, o.reconcile)
}

// counted reports whether the cache knows a Job that looks after p.
func (o *jobOrphans) counted(p *corev1.Pod) bool {
	ref := metav1.GetControllerOf(p)
	if ref == nil || !isOf(ref, api.Jobs) {
		return false
	}
	job, ok := o.Caches.Jobs.Get(client.Key{Namespace: p.Namespace, Name: ref.Name})
	return ok && job.UID == ref.UID
}

func (o *jobOrphans) reconcile(ctx context.Context, key client.Key) (time.Duration, error) {
	p, ok := o.Caches.Pods.Get(key)
	if !ok || !tracked(p) || o.counted(p) {
		return 0, nil
	}
	// The cache of Jobs may be behind that of pods.
	if ref := metav1.GetControllerOf(p); ref != nil && isOf(ref, api.Jobs) {
		job, err := o.Client.Get(ctx, api.Jobs, client.Key{Namespace: p.Namespace, Name: ref.Name}, client.GetOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return 0, fmt.Errorf("look for job %s: %w", ref.Name, err)
		}
		if err == nil && job.GetUID() == ref.UID {
			return 0, nil
		}
	}
	return 0, o.jobs.release(ctx, []*corev1.Pod{p})
}
