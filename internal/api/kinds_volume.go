package api

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The rows of storage that outlives pods. Nothing binds claims to volumes yet.
// Finalizers that keep volumes and claims while they are used.
const (
	FinalizerVolume = "kubernetes.io/pv-protection"
	FinalizerClaim  = "kubernetes.io/pvc-protection"
)

var (
	PersistentVolumes      = row[corev1.PersistentVolume, corev1.PersistentVolumeList](corev1.SchemeGroupVersion, "PersistentVolume", "persistentvolumes", "pv").with(persistentVolumeRow)
	PersistentVolumeClaims = row[corev1.PersistentVolumeClaim, corev1.PersistentVolumeClaimList](corev1.SchemeGroupVersion, "PersistentVolumeClaim", "persistentvolumeclaims", "pvc").with(claimRow)
)

func persistentVolumeRow(k *Kind) {
	k.Namespaced = false
	k.Subresources = []Subresource{{Name: "status", Kind: "PersistentVolume", Verbs: statusVerbs()}}
	k.Default = on(defaultPersistentVolume)
	k.PrepareCreate = on(prepareNewVolume)
	k.PrepareUpdate = pair(func(updated, old *corev1.PersistentVolume) { updated.Status = old.Status })
	k.Validate, k.ValidateUpdate, k.ValidateStatus = check(validatePersistentVolume), compare(validatePersistentVolumeUpdate), anyStatus
	k.CopyStatus = pair(copyVolumeStatus)
	k.Columns, k.Cells = persistentVolumeColumns(), cells(persistentVolumeCells)
}

func claimRow(k *Kind) {
	k.Subresources = []Subresource{{Name: "status", Kind: "PersistentVolumeClaim", Verbs: statusVerbs()}}
	k.Default = on(defaultClaim)
	k.PrepareCreate = on(func(c *corev1.PersistentVolumeClaim) {
		c.Status = corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending}
		alignDataSources(&c.Spec, nil)
	})
	k.PrepareUpdate = pair(func(updated, old *corev1.PersistentVolumeClaim) {
		updated.Status = old.Status
		alignDataSources(&updated.Spec, &old.Spec)
	})
	k.Validate, k.ValidateUpdate, k.ValidateStatus = check(validateClaim), compare(validateClaimUpdate), compare(validateClaimStatus)
	k.CopyStatus = pair(func(to, from *corev1.PersistentVolumeClaim) {
		to.Status = *from.Status.DeepCopy()
		to.Status.HealthStatus = nil // not in use unless Kubernetes is told so
	})
	k.Columns, k.Cells = claimColumns(), cells(claimCells)
}

func defaultPersistentVolume(v *corev1.PersistentVolume) {
	blank(&v.Status.Phase, corev1.VolumePending)
	s := &v.Spec
	blank(&s.PersistentVolumeReclaimPolicy, corev1.PersistentVolumeReclaimRetain)
	unset(&s.VolumeMode, corev1.PersistentVolumeFilesystem)
	defaultPersistentSource(s)
}

func defaultPersistentSource(s *corev1.PersistentVolumeSpec) {
	roundResources(s.Capacity)
	switch {
	case s.HostPath != nil:
		unset(&s.HostPath.Type, corev1.HostPathUnset)
	case s.ISCSI != nil:
		blank(&s.ISCSI.ISCSIInterface, "default")
	case s.RBD != nil:
		blank(&s.RBD.RBDPool, "rbd")
		blank(&s.RBD.RadosUser, "admin")
		blank(&s.RBD.Keyring, "/etc/ceph/keyring")
	case s.AzureDisk != nil:
		unset(&s.AzureDisk.CachingMode, corev1.AzureDataDiskCachingReadWrite)
		unset(&s.AzureDisk.Kind, corev1.AzureSharedBlobDisk)
		unset(&s.AzureDisk.FSType, "ext4")
		unset(&s.AzureDisk.ReadOnly, false)
	case s.ScaleIO != nil:
		blank(&s.ScaleIO.StorageMode, "ThinProvisioned")
		blank(&s.ScaleIO.FSType, "xfs")
	}
}

func prepareNewVolume(v *corev1.PersistentVolume) {
	v.Status = corev1.PersistentVolumeStatus{Phase: corev1.VolumePending}
	if at := v.CreationTimestamp; !at.IsZero() {
		v.Status.LastPhaseTransitionTime = &at
	}
}

// copyVolumeStatus keeps the time of the phase's last change with the phase.
func copyVolumeStatus(to, from *corev1.PersistentVolume) {
	was := to.Status
	to.Status = *from.Status.DeepCopy()
	switch at := to.Status.LastPhaseTransitionTime; {
	case to.Status.Phase == was.Phase && at == nil:
		to.Status.LastPhaseTransitionTime = was.LastPhaseTransitionTime
	case to.Status.Phase != was.Phase && (at == nil || at.Equal(was.LastPhaseTransitionTime)):
		now := metav1.Now()
		to.Status.LastPhaseTransitionTime = &now
	}
}

func defaultClaim(c *corev1.PersistentVolumeClaim) {
	blank(&c.Status.Phase, corev1.ClaimPending)
	unset(&c.Spec.VolumeMode, corev1.PersistentVolumeFilesystem)
	for _, list := range []corev1.ResourceList{c.Spec.Resources.Limits, c.Spec.Resources.Requests, c.Status.Capacity, c.Status.AllocatedResources} {
		roundResources(list)
	}
}

// alignDataSources keeps the two spellings of a claim's source the same. The first knew claims and snapshots only, and
// ignored everything else; what old has stays. A source in another namespace is not in use unless Kubernetes is told so.
func alignDataSources(s, old *corev1.PersistentVolumeClaimSpec) {
	if r := s.DataSourceRef; r != nil && deref(r.Namespace, "") != "" && (old == nil || old.DataSourceRef == nil) {
		s.DataSourceRef = nil
	}
	inUse := old != nil && (old.DataSource != nil || old.DataSourceRef != nil)
	if !inUse && s.DataSourceRef == nil && s.DataSource != nil {
		group := deref(s.DataSource.APIGroup, "")
		claim := s.DataSource.Kind == "PersistentVolumeClaim" && group == ""
		snapshot := s.DataSource.Kind == "VolumeSnapshot" && group == "snapshot.storage.k8s.io"
		if !claim && !snapshot {
			s.DataSource = nil
		}
	}
	switch {
	case s.DataSource != nil && s.DataSourceRef == nil:
		d := s.DataSource.DeepCopy()
		s.DataSourceRef = &corev1.TypedObjectReference{APIGroup: d.APIGroup, Kind: d.Kind, Name: d.Name}
	case s.DataSource == nil && s.DataSourceRef != nil && deref(s.DataSourceRef.Namespace, "") == "":
		d := s.DataSourceRef.DeepCopy()
		s.DataSource = &corev1.TypedLocalObjectReference{APIGroup: d.APIGroup, Kind: d.Kind, Name: d.Name}
	}
}
