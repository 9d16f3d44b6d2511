package controller

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/storage/volume"

	"shoal/internal/api"
	"shoal/internal/client"
)

// reclaimer keeps volumes' phases, and does with those whose claim is gone what they say: they stay, or they are deleted.
type reclaimer struct {
	Config
	queue client.Queue
}

func newReclaimer(c Config) loop {
	r := &reclaimer{Config: c, queue: client.NewQueue()}
	c.Caches.Volumes.OnChange(func(_, v *corev1.PersistentVolume) {
		if v != nil {
			r.queue.Add(client.KeyOf(v))
		}
	})
	c.Caches.Claims.OnChange(func(old, claim *corev1.PersistentVolumeClaim) {
		for _, o := range []*corev1.PersistentVolumeClaim{old, claim} {
			if o == nil {
				continue
			}
			if o.Spec.VolumeName != "" {
				r.queue.Add(client.Key{Name: o.Spec.VolumeName})
			}
			if claim == nil && !api.IsClaimBound(o) { // half bound: only the volume knew
				for _, v := range c.Caches.Volumes.List("", nil) {
					if volume.IsVolumeBoundToClaim(v, o) {
						r.queue.Add(client.KeyOf(v))
					}
				}
			}
		}
	})
	c.Caches.Nodes.OnChange(func(old, n *corev1.Node) {
		if n != nil {
			return
		}
		for _, v := range c.Caches.Volumes.List("", nil) {
			if api.LocalVolumeNode(v) == old.Name {
				r.queue.Add(client.KeyOf(v))
			}
		}
	})
	return newLoop("persistentvolume-reclaimer", r.queue, 1, r.reconcile)
}

func (r *reclaimer) reconcile(ctx context.Context, key client.Key) (time.Duration, error) {
	v, ok := r.Caches.Volumes.Get(key)
	if !ok {
		return 0, nil
	}
	if v.DeletionTimestamp != nil && slices.Contains(v.Finalizers, api.FinalizerLocal) {
		if _, ok := r.Caches.Nodes.Get(client.Key{Name: api.LocalVolumeNode(v)}); !ok { // nobody is left to remove what is there, nor is that
			return 0, dropFinalizer(ctx, r.Client, api.PersistentVolumes, v, api.FinalizerLocal)
		}
	}
	ref := v.Spec.ClaimRef
	if ref == nil || ref.UID == "" {
		return 0, volumePhase(ctx, r.Config, v, corev1.VolumeAvailable, "")
	}
	claim, gone, err := r.claim(ctx, ref)
	switch {
	case err != nil:
		return 0, err
	case gone:
		return 0, r.reclaim(ctx, v)
	case claim.Spec.VolumeName == "" || claim.Spec.VolumeName == v.Name:
		return 0, nil // its binder goes on
	case v.Annotations[volume.AnnDynamicallyProvisioned] != "" && v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete:
		return 0, r.reclaim(ctx, v) // it was made for a claim that got another
	}
	return 0, r.unbind(ctx, v)
}

// claim returns the claim that a volume says it belongs to; gone only if the most recent state says so.
func (r *reclaimer) claim(ctx context.Context, ref *corev1.ObjectReference) (claim *corev1.PersistentVolumeClaim, gone bool, err error) {
	key := client.Key{Namespace: ref.Namespace, Name: ref.Name}
	claim, ok := r.Caches.Claims.Get(key)
	if ok && claim.UID == ref.UID {
		return claim, false, nil
	}
	claim, err = updated[*corev1.PersistentVolumeClaim](r.Client.Get(ctx, api.PersistentVolumeClaims, key, client.GetOptions{}))
	if apierrors.IsNotFound(err) || err == nil && claim.UID != ref.UID {
		return nil, true, nil
	}
	return claim, false, err
}

// reclaim does with a volume without a claim what its policy says.
func (r *reclaimer) reclaim(ctx context.Context, v *corev1.PersistentVolume) error {
	if v.Status.Phase != corev1.VolumeFailed {
		if err := volumePhase(ctx, r.Config, v, corev1.VolumeReleased, ""); err != nil {
			return err
		}
	}
	if v.DeletionTimestamp != nil {
		return nil
	}
	made := v.Annotations[volume.AnnDynamicallyProvisioned]
	switch policy := v.Spec.PersistentVolumeReclaimPolicy; {
	case policy == corev1.PersistentVolumeReclaimDelete && made == api.LocalProvisioner:
		_, err := r.Client.Delete(ctx, api.PersistentVolumes, client.KeyOf(v), client.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &v.UID}})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete volume: %w", err)
		}
		return nil
	case policy == corev1.PersistentVolumeReclaimDelete && made == "" && v.Spec.CSI == nil:
		return r.failed(ctx, v, "VolumeFailedDelete", "nobody can delete what this volume holds: delete it by hand, and then the volume")
	case policy == corev1.PersistentVolumeReclaimRecycle:
		return r.failed(ctx, v, "VolumeFailedRecycle", "volumes are not recycled: reclaim policy Recycle is deprecated; use Retain, or a class that makes volumes")
	}
	return nil // it stays, or its provisioner deletes it
}

func (r *reclaimer) failed(ctx context.Context, v *corev1.PersistentVolume, reason, message string) error {
	if v.Status.Phase == corev1.VolumeFailed {
		return nil
	}
	r.Events.EventFrom(binderName, v, corev1.EventTypeWarning, reason, "%s", message)
	return volumePhase(ctx, r.Config, v, corev1.VolumeFailed, message)
}

// unbind takes back that a volume belongs to a claim which got another one. Who named the claim is kept.
func (r *reclaimer) unbind(ctx context.Context, v *corev1.PersistentVolume) error {
	v = v.DeepCopy()
	if v.Annotations[volume.AnnBoundByController] != "" {
		delete(v.Annotations, volume.AnnBoundByController)
		v.Spec.ClaimRef = nil
	} else {
		v.Spec.ClaimRef.UID = ""
	}
	v, err := updated[*corev1.PersistentVolume](r.Client.Update(ctx, api.PersistentVolumes, v, client.UpdateOptions{}))
	if err != nil {
		return fmt.Errorf("unbind volume: %w", err)
	}
	return volumePhase(ctx, r.Config, v, corev1.VolumeAvailable, "")
}

// volumePhase writes a volume's phase, and returns when the cache shows it.
func volumePhase(ctx context.Context, c Config, v *corev1.PersistentVolume, phase corev1.PersistentVolumePhase, message string) error {
	return updateStatus(ctx, c, api.PersistentVolumes, c.Caches.Volumes, v, func(v *corev1.PersistentVolume) {
		v.Status.Phase, v.Status.Message = phase, message
	})
}
