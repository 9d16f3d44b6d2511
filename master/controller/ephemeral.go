package controller

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

// ephemerals makes the claims of pods that have some for themselves alone. They go with the pod, which owns them.
type ephemerals struct {
	Config
	queue client.Queue
}

func newEphemerals(c Config) loop {
	e := &ephemerals{Config: c, queue: client.NewQueue()}
	c.Caches.Pods.OnChange(func(_, pod *corev1.Pod) {
		if pod != nil && hasEphemeral(pod) {
			e.queue.Add(client.KeyOf(pod))
		}
	})
	c.Caches.Claims.OnChange(func(old, claim *corev1.PersistentVolumeClaim) {
		if claim != nil {
			return
		}
		for _, pod := range c.Caches.UsersOf(client.KeyOf(old)) {
			if hasEphemeral(pod) {
				e.queue.Add(client.KeyOf(pod))
			}
		}
	})
	return newLoop("ephemeral-volume-controller", e.queue, 1, e.reconcile)
}

func hasEphemeral(pod *corev1.Pod) bool {
	for i := range pod.Spec.Volumes {
		if pod.Spec.Volumes[i].Ephemeral != nil {
			return true
		}
	}
	return false
}

func (e *ephemerals) reconcile(ctx context.Context, key client.Key) (time.Duration, error) {
	pod, ok := e.Caches.Pods.Get(key)
	if !ok || pod.DeletionTimestamp != nil || api.IsPodTerminal(pod) {
		return 0, nil
	}
	for i := range pod.Spec.Volumes {
		if v := &pod.Spec.Volumes[i]; v.Ephemeral != nil && v.Ephemeral.VolumeClaimTemplate != nil {
			if err := e.claim(ctx, pod, v); err != nil {
				return 0, err
			}
		}
	}
	return 0, nil
}

func (e *ephemerals) claim(ctx context.Context, pod *corev1.Pod, v *corev1.Volume) error {
	key := client.Key{Namespace: pod.Namespace, Name: pod.Name + "-" + v.Name}
	if is, ok := e.Caches.Claims.Get(key); ok {
		if !metav1.IsControlledBy(is, pod) {
			e.Events.EventFrom("ephemeral_volume", pod, corev1.EventTypeWarning, "FailedBinding", "ephemeral volume %s: PVC %s was not created for the pod: its name is taken", v.Name, key)
		}
		return nil
	}
	t := v.Ephemeral.VolumeClaimTemplate.DeepCopy()
	out, err := e.Client.Create(ctx, api.PersistentVolumeClaims, &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: key.Namespace, Name: key.Name, Labels: t.Labels, Annotations: t.Annotations, OwnerReferences: []metav1.OwnerReference{controllerRef(pod, api.Pods)},
		},
		Spec: t.Spec,
	}, client.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	if err != nil {
		e.Events.EventFrom("ephemeral_volume", pod, corev1.EventTypeWarning, "FailedBinding", "ephemeral volume %s: create PVC %s: %v", v.Name, key, err)
		return fmt.Errorf("make claim: %w", err)
	}
	return e.Caches.Claims.WaitFor(ctx, out.(*corev1.PersistentVolumeClaim).ResourceVersion)
}
