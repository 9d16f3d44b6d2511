package api

import corev1 "k8s.io/api/core/v1"

func defaultVolume(v *corev1.Volume) {
	s := &v.VolumeSource
	if *s == (corev1.VolumeSource{}) {
		s.EmptyDir = &corev1.EmptyDirVolumeSource{}
	}
	switch {
	case s.HostPath != nil:
		unset(&s.HostPath.Type, corev1.HostPathUnset)
	case s.Secret != nil:
		unset(&s.Secret.DefaultMode, corev1.SecretVolumeSourceDefaultMode)
	case s.ConfigMap != nil:
		unset(&s.ConfigMap.DefaultMode, corev1.ConfigMapVolumeSourceDefaultMode)
	case s.DownwardAPI != nil:
		unset(&s.DownwardAPI.DefaultMode, corev1.DownwardAPIVolumeSourceDefaultMode)
		defaultDownward(s.DownwardAPI.Items)
	case s.Projected != nil:
		defaultProjected(s.Projected)
	case s.Ephemeral != nil && s.Ephemeral.VolumeClaimTemplate != nil:
		unset(&s.Ephemeral.VolumeClaimTemplate.Spec.VolumeMode, corev1.PersistentVolumeFilesystem)
	case s.Image != nil:
		blank(&s.Image.PullPolicy, pullPolicy(s.Image.Reference))
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

func defaultProjected(p *corev1.ProjectedVolumeSource) {
	const anHour = 60 * 60
	unset(&p.DefaultMode, corev1.ProjectedVolumeSourceDefaultMode)
	for i := range p.Sources {
		if d := p.Sources[i].DownwardAPI; d != nil {
			defaultDownward(d.Items)
		}
		if t := p.Sources[i].ServiceAccountToken; t != nil {
			unset(&t.ExpirationSeconds, anHour)
		}
	}
}

func defaultDownward(files []corev1.DownwardAPIVolumeFile) {
	for i := range files {
		defaultFieldRef(files[i].FieldRef)
	}
}
