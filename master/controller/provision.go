package controller

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/storage/volume"

	"shoal/internal/api"
	"shoal/internal/client"
)

// make has a volume made for a claim for which there is none, or says what it waits for.
func (b *binder) make(ctx context.Context, claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass) error {
	name := volume.GetPersistentVolumeClaimClass(claim)
	selected, waited := claim.Annotations[volume.AnnSelectedNode]
	say := func(kind, reason, format string, args ...any) {
		b.Events.EventFrom(binderName, claim, kind, reason, format, args...)
	}
	switch {
	case name == "" && !volume.PersistentVolumeClaimHasClass(claim):
		if d := api.DefaultStorageClass(b.Caches.Classes.List("", nil)); d != nil { // which came after the claim
			return b.alter(ctx, claim, func(c *corev1.PersistentVolumeClaim) { c.Spec.StorageClassName = &d.Name })
		}
		fallthrough
	case name == "":
		say(corev1.EventTypeNormal, "FailedBinding", "no persistent volumes available for this claim and no storage class is set")
	case class == nil:
		say(corev1.EventTypeWarning, "ProvisioningFailed", "storageclass.storage.k8s.io %q not found", name)
	case api.WaitsForConsumer(class) && !waited:
		say(corev1.EventTypeNormal, "WaitForFirstConsumer", "waiting for first consumer to be created before binding")
	case !api.Provisions(class):
		say(corev1.EventTypeNormal, "FailedBinding", "no persistent volumes available for this claim: class %q has none made", name)
	case class.Provisioner == api.LocalProvisioner:
		return b.makeLocal(ctx, claim, class, selected)
	default:
		if claim.Annotations[volume.AnnStorageProvisioner] != class.Provisioner {
			return b.alter(ctx, claim, func(c *corev1.PersistentVolumeClaim) {
				metav1.SetMetaDataAnnotation(&c.ObjectMeta, volume.AnnStorageProvisioner, class.Provisioner)
				metav1.SetMetaDataAnnotation(&c.ObjectMeta, volume.AnnBetaStorageProvisioner, class.Provisioner)
			})
		}
		say(corev1.EventTypeNormal, "ExternalProvisioning", "Waiting for a volume to be created either by the external provisioner '%s' or manually by the system administrator. "+
			"If volume creation is delayed, please verify that the provisioner is running and correctly registered.", class.Provisioner)
	}
	return nil
}

// makeLocal makes the volume of a claim on the node that its pod was given: the object, which the machine fills with a directory when the pod starts.
func (b *binder) makeLocal(ctx context.Context, claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass, selected string) error {
	node, known := b.Caches.Nodes.Get(client.Key{Name: selected})
	err := api.CheckLocalClaim(claim, class)
	if err == nil && !known {
		err = fmt.Errorf("node %q is gone", selected)
	}
	if err != nil {
		b.Events.EventFrom(api.LocalProvisioner, claim, corev1.EventTypeWarning, "ProvisioningFailed", "failed to provision volume with StorageClass %q: %v", class.Name, err)
		if selected == "" {
			return nil
		}
		return b.alter(ctx, claim, func(c *corev1.PersistentVolumeClaim) { delete(c.Annotations, volume.AnnSelectedNode) }) // the scheduler chooses again
	}
	v := api.NewLocalVolume(claim, class, node)
	out, err := updated[*corev1.PersistentVolume](b.Client.Create(ctx, api.PersistentVolumes, v, client.CreateOptions{}))
	if apierrors.IsAlreadyExists(err) {
		return nil // by this Master or the one before; the cache will show it
	}
	if err != nil {
		return fmt.Errorf("make volume for claim %s: %w", claim.Name, err)
	}
	b.Events.EventFrom(api.LocalProvisioner, claim, corev1.EventTypeNormal, "ProvisioningSucceeded", "Successfully provisioned volume %s", v.Name)
	return b.Caches.Volumes.WaitFor(ctx, out.ResourceVersion)
}

// alter writes what change makes of a claim, and returns when the cache shows it.
func (b *binder) alter(ctx context.Context, claim *corev1.PersistentVolumeClaim, change func(*corev1.PersistentVolumeClaim)) error {
	claim = claim.DeepCopy()
	change(claim)
	out, err := updated[*corev1.PersistentVolumeClaim](b.Client.Update(ctx, api.PersistentVolumeClaims, claim, client.UpdateOptions{}))
	if err != nil {
		return fmt.Errorf("change claim: %w", err)
	}
	return b.Caches.Claims.WaitFor(ctx, out.ResourceVersion)
}
