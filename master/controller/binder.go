package controller

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/component-helpers/storage/volume"

	"shoal/internal/api"
	"shoal/internal/client"
)

const binderName = "persistentvolume-controller" // in Events, as in Kubernetes

// binder gives claims their volumes: those that wait for no pod at once, the others when the scheduler has chosen. First the volume says whose it
// is, then the claim says which it has; so whoever reads half of it knows how to go on, and no volume is given away twice.
type binder struct {
	Config
	queue client.Queue
}

func newBinder(c Config) loop {
	b := &binder{Config: c, queue: client.NewQueue()}
	all := func(which func(*corev1.PersistentVolumeClaim) bool) {
		for _, claim := range c.Caches.Claims.List("", nil) {
			if which(claim) {
				b.queue.Add(client.KeyOf(claim))
			}
		}
	}
	open := func(claim *corev1.PersistentVolumeClaim) bool { return !api.IsClaimBound(claim) }
	c.Caches.Claims.OnChange(func(_, claim *corev1.PersistentVolumeClaim) {
		if claim != nil {
			b.queue.Add(client.KeyOf(claim))
		}
	})
	c.Caches.Volumes.OnChange(func(old, v *corev1.PersistentVolume) {
		for _, o := range []*corev1.PersistentVolume{old, v} {
			if o != nil && o.Spec.ClaimRef != nil {
				b.queue.Add(client.Key{Namespace: o.Spec.ClaimRef.Namespace, Name: o.Spec.ClaimRef.Name})
			}
		}
		if v != nil && v.Status.Phase == corev1.VolumeAvailable && (old == nil || !equality.Semantic.DeepEqual(old.Spec, v.Spec) || old.Status.Phase != v.Status.Phase) {
			all(open)
		}
	})
	c.Caches.Classes.OnChange(func(_, class *storagev1.StorageClass) {
		all(func(claim *corev1.PersistentVolumeClaim) bool {
			return open(claim) && (!volume.PersistentVolumeClaimHasClass(claim) || class != nil && volume.GetPersistentVolumeClaimClass(claim) == class.Name)
		})
	})
	c.Caches.Nodes.OnChange(func(old, n *corev1.Node) {
		if n == nil {
			all(func(claim *corev1.PersistentVolumeClaim) bool {
				return open(claim) && claim.Annotations[volume.AnnSelectedNode] == old.Name
			})
		}
	})
	return newLoop("persistentvolume-binder-controller", b.queue, 1, b.reconcile) // one at a time: each sees what the last one took
}

func (b *binder) reconcile(ctx context.Context, key client.Key) (time.Duration, error) {
	claim, ok := b.Caches.Claims.Get(key)
	if !ok {
		return 0, nil
	}
	if api.IsClaimBound(claim) {
		return 0, b.keep(ctx, claim)
	}
	if claim.DeletionTimestamp != nil {
		return 0, nil
	}
	class, err := b.class(ctx, claim)
	if err != nil {
		return 0, err
	}
	v, err := b.find(claim, class)
	switch {
	case err != nil:
		b.Events.EventFrom(binderName, claim, corev1.EventTypeWarning, "FailedBinding", "%v", err)
	case v != nil:
		return 0, b.bind(ctx, claim, v)
	case claim.Spec.VolumeName != "": // which may come
	default:
		if err := b.make(ctx, claim, class); err != nil {
			return 0, err
		}
	}
	return 0, b.status(ctx, claim, corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending})
}

// class returns a claim's class, nil when there is none. One that came just before the claim may not have reached the cache, although the claim has: who took
// it for one that is bound at once would give the claim a volume where its pod is not.
func (b *binder) class(ctx context.Context, claim *corev1.PersistentVolumeClaim) (*storagev1.StorageClass, error) {
	key := client.Key{Name: volume.GetPersistentVolumeClaimClass(claim)}
	class, ok := b.Caches.Classes.Get(key)
	if ok || key.Name == "" {
		return class, nil
	}
	o, err := b.Client.Get(ctx, api.StorageClasses, key, client.GetOptions{ResourceVersion: "0"})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read class %s: %w", key.Name, err)
	}
	class, ok = o.(*storagev1.StorageClass)
	if !ok {
		return nil, fmt.Errorf("read class %s: answer is a %T", key.Name, o)
	}
	return class, nil
}

// find returns the volume for a claim, nil when there is none, or why the one that it asks for cannot be had.
func (b *binder) find(claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass) (*corev1.PersistentVolume, error) {
	name := claim.Spec.VolumeName
	if name == "" {
		return volume.FindMatchingVolume(claim, b.Caches.Volumes.List("", nil), nil, nil, api.WaitsForConsumer(class), true)
	}
	v, ok := b.Caches.Volumes.Get(client.Key{Name: name})
	switch {
	case !ok:
		return nil, nil
	case v.Spec.ClaimRef != nil && !volume.IsVolumeBoundToClaim(v, claim):
		return nil, fmt.Errorf("volume %q already bound to a different claim", name)
	case v.Spec.ClaimRef == nil:
		if err := mismatch(claim, v); err != nil {
			return nil, fmt.Errorf("cannot bind to requested volume %q: %w", name, err)
		}
	}
	return v, nil
}

// mismatch returns why a volume is not what a claim that names it asks for.
func mismatch(claim *corev1.PersistentVolumeClaim, v *corev1.PersistentVolume) error {
	want, have := claim.Spec.Resources.Requests[corev1.ResourceStorage], v.Spec.Capacity[corev1.ResourceStorage]
	switch {
	case have.Cmp(want) < 0:
		return fmt.Errorf("requested PV is too small: it has %s, the claim asks for %s", have.String(), want.String())
	case volume.GetPersistentVolumeClass(v) != volume.GetPersistentVolumeClaimClass(claim):
		return fmt.Errorf("storageClassName does not match: it is of class %q, the claim asks for %q", volume.GetPersistentVolumeClass(v), volume.GetPersistentVolumeClaimClass(claim))
	case volume.CheckVolumeModeMismatches(&claim.Spec, &v.Spec):
		return fmt.Errorf("incompatible volumeMode")
	case !volume.CheckAccessModes(claim, v):
		return fmt.Errorf("incompatible accessMode")
	}
	return nil
}

// bind writes what is missing of a claim's having a volume.
func (b *binder) bind(ctx context.Context, claim *corev1.PersistentVolumeClaim, v *corev1.PersistentVolume) error {
	v, dirty, err := volume.GetBindVolumeToClaim(v, claim)
	if err != nil {
		return err
	}
	if dirty {
		if v, err = updated[*corev1.PersistentVolume](b.Client.Update(ctx, api.PersistentVolumes, v, client.UpdateOptions{})); err != nil {
			return fmt.Errorf("give volume to claim: %w", err)
		}
	}
	if err := volumePhase(ctx, b.Config, v, corev1.VolumeBound, ""); err != nil {
		return err
	}
	if !api.IsClaimBound(claim) {
		named := claim.Spec.VolumeName != ""
		claim = claim.DeepCopy()
		claim.Spec.VolumeName = v.Name
		metav1.SetMetaDataAnnotation(&claim.ObjectMeta, volume.AnnBindCompleted, "yes")
		if !named {
			metav1.SetMetaDataAnnotation(&claim.ObjectMeta, volume.AnnBoundByController, "yes")
		}
		if claim, err = updated[*corev1.PersistentVolumeClaim](b.Client.Update(ctx, api.PersistentVolumeClaims, claim, client.UpdateOptions{})); err != nil {
			return fmt.Errorf("give claim its volume: %w", err)
		}
	}
	return b.status(ctx, claim, corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound, AccessModes: v.Spec.AccessModes, Capacity: v.Spec.Capacity})
}

// updated is the answer to a write, as what it is.
func updated[T api.Object](o runtime.Object, err error) (T, error) {
	out, _ := o.(T)
	return out, err
}

// keep looks after a claim that was bound.
func (b *binder) keep(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	v, ok := b.Caches.Volumes.Get(client.Key{Name: claim.Spec.VolumeName})
	switch {
	case !ok:
		// Only the most recent state says that it is lost.
		if _, err := b.Client.Get(ctx, api.PersistentVolumes, client.Key{Name: claim.Spec.VolumeName}, client.GetOptions{}); !apierrors.IsNotFound(err) {
			return err
		}
		return b.lost(ctx, claim, "ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!")
	case v.Spec.ClaimRef == nil || volume.IsVolumeBoundToClaim(v, claim):
		return b.bind(ctx, claim, v)
	default:
		return b.lost(ctx, claim, "ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly")
	}
}

func (b *binder) lost(ctx context.Context, claim *corev1.PersistentVolumeClaim, reason, message string) error {
	if claim.Status.Phase == corev1.ClaimLost {
		return nil
	}
	b.Events.EventFrom(binderName, claim, corev1.EventTypeWarning, reason, "%s", message)
	return b.status(ctx, claim, corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimLost})
}

// status writes a claim's phase, and what of it follows from its volume.
func (b *binder) status(ctx context.Context, claim *corev1.PersistentVolumeClaim, is corev1.PersistentVolumeClaimStatus) error {
	return updateStatus(ctx, b.Config, api.PersistentVolumeClaims, b.Caches.Claims, claim, func(c *corev1.PersistentVolumeClaim) {
		c.Status.Phase, c.Status.AccessModes, c.Status.Capacity = is.Phase, is.AccessModes, is.Capacity
	})
}
