package api

import (
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
)

// The rows of storage.k8s.io. Only classes act yet: nothing attaches volumes.
var (
	CSIDrivers              = row[storagev1.CSIDriver, storagev1.CSIDriverList](storagev1.SchemeGroupVersion, "CSIDriver", "csidrivers").with(csiDriverRow)
	CSINodes                = row[storagev1.CSINode, storagev1.CSINodeList](storagev1.SchemeGroupVersion, "CSINode", "csinodes").with(csiNodeRow)
	CSIStorageCapacities    = row[storagev1.CSIStorageCapacity, storagev1.CSIStorageCapacityList](storagev1.SchemeGroupVersion, "CSIStorageCapacity", "csistoragecapacities").with(csiStorageCapacityRow)
	StorageClasses          = row[storagev1.StorageClass, storagev1.StorageClassList](storagev1.SchemeGroupVersion, "StorageClass", "storageclasses", "sc").with(storageClassRow)
	VolumeAttributesClasses = row[storagev1.VolumeAttributesClass, storagev1.VolumeAttributesClassList](storagev1.SchemeGroupVersion, "VolumeAttributesClass", "volumeattributesclasses", "vac").with(volumeAttributesClassRow)
	VolumeAttachments       = row[storagev1.VolumeAttachment, storagev1.VolumeAttachmentList](storagev1.SchemeGroupVersion, "VolumeAttachment", "volumeattachments").with(volumeAttachmentRow)
)

func storageClassRow(k *Kind) {
	k.Namespaced = false
	k.Default = on(func(c *storagev1.StorageClass) {
		unset(&c.ReclaimPolicy, corev1.PersistentVolumeReclaimDelete)
		unset(&c.VolumeBindingMode, storagev1.VolumeBindingImmediate)
	})
	k.Validate, k.ValidateUpdate = check(validateStorageClass), compare(validateStorageClassUpdate)
	k.Columns, k.Cells = storageClassColumns(), cells(storageClassCells)
}

func csiDriverRow(k *Kind) {
	k.Namespaced = false
	k.NeedsVersion = true
	k.Default = on(defaultCSIDriver)
	k.PrepareUpdate = pair(prepareCSIDriverUpdate)
	k.Validate, k.ValidateUpdate = check(validateCSIDriver), compare(validateCSIDriverUpdate)
	k.Columns, k.Cells = csiDriverColumns(), cells(csiDriverCells)
}

func csiNodeRow(k *Kind) {
	k.Namespaced = false
	k.NeedsVersion = true
	k.Subresources = []Subresource{{Name: "status", Kind: "CSINode", Verbs: statusVerbs()}}
	k.PrepareCreate = on(func(n *storagev1.CSINode) { n.Status = storagev1.CSINodeStatus{} })
	k.PrepareUpdate = pair(func(updated, old *storagev1.CSINode) { updated.Status = old.Status })
	k.Validate, k.ValidateUpdate, k.ValidateStatus = check(validateCSINode), compare(validateCSINodeUpdate), anyStatus
	k.CopyStatus = pair(func(to, from *storagev1.CSINode) {
		to.Status = *from.Status.DeepCopy()
		to.Status.StorageHealth = nil // not in use unless Kubernetes is told so
	})
	k.Columns, k.Cells = csiNodeColumns(), cells(csiNodeCells)
}

func volumeAttachmentRow(k *Kind) {
	k.Namespaced = false
	k.NeedsVersion = true
	k.Subresources = []Subresource{{Name: "status", Kind: "VolumeAttachment", Verbs: statusVerbs()}}
	k.Default = on(func(a *storagev1.VolumeAttachment) {
		if s := a.Spec.Source.InlineVolumeSpec; s != nil {
			defaultPersistentSource(s)
		}
	})
	k.PrepareCreate = on(func(a *storagev1.VolumeAttachment) { a.Status = storagev1.VolumeAttachmentStatus{} })
	k.PrepareUpdate = pair(func(updated, old *storagev1.VolumeAttachment) { updated.Status = old.Status })
	k.Validate = check(validateVolumeAttachment)
	k.ValidateUpdate, k.ValidateStatus = compare(validateVolumeAttachmentUpdate), compare(validateVolumeAttachmentUpdate)
	k.CopyStatus = pair(func(to, from *storagev1.VolumeAttachment) { to.Status = *from.Status.DeepCopy() })
	k.Columns, k.Cells = volumeAttachmentColumns(), cells(volumeAttachmentCells)
}

func volumeAttributesClassRow(k *Kind) {
	k.Namespaced = false
	k.NeedsVersion = true
	k.Validate, k.ValidateUpdate = check(validateVolumeAttributesClass), compare(validateVolumeAttributesClassUpdate)
	k.Columns, k.Cells = volumeAttributesClassColumns(), cells(volumeAttributesClassCells)
}

func csiStorageCapacityRow(k *Kind) {
	k.NeedsVersion = true
	k.Validate, k.ValidateUpdate = check(validateCSIStorageCapacity), compare(validateCSIStorageCapacityUpdate)
	k.Columns, k.Cells = csiStorageCapacityColumns(), cells(csiStorageCapacityCells)
}

func defaultCSIDriver(d *storagev1.CSIDriver) {
	s := &d.Spec
	unset(&s.AttachRequired, true)
	unset(&s.PodInfoOnMount, false)
	unset(&s.StorageCapacity, false)
	unset(&s.FSGroupPolicy, storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy)
	unset(&s.RequiresRepublish, false)
	unset(&s.SELinuxMount, false)
	unset(&s.PreventPodSchedulingIfMissing, false)
	if len(s.VolumeLifecycleModes) == 0 {
		s.VolumeLifecycleModes = []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecyclePersistent}
	}
}

// prepareCSIDriverUpdate counts generations from the first change, since those of new drivers never were.
func prepareCSIDriverUpdate(updated, old *storagev1.CSIDriver) {
	if !isSame(updated.Spec, old.Spec) {
		updated.Generation = old.Generation + 1
	}
}
