package api

import (
	"maps"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// anyStatus is the check of a status that may say anything.
func anyStatus(_, _ Object) field.ErrorList { return nil }

func validatePersistentVolume(v *corev1.PersistentVolume) field.ErrorList {
	s, at := &v.Spec, field.NewPath("spec")
	var errs field.ErrorList
	if len(s.AccessModes) == 0 {
		errs = append(errs, field.Required(at.Child("accessModes"), ""))
	}
	errs = append(errs, validateAccessModes(s.AccessModes, at.Child("accessModes"))...)
	errs = append(errs, validateCapacity(s.Capacity, at.Child("capacity"))...)
	if p := s.PersistentVolumeReclaimPolicy; p != "" {
		errs = append(errs, oneOf(p, at.Child("persistentVolumeReclaimPolicy"), corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRecycle, corev1.PersistentVolumeReclaimRetain)...)
	}
	if a := s.NodeAffinity; a != nil {
		if a.Required == nil {
			errs = append(errs, field.Required(at.Child("nodeAffinity", "required"), "must specify required node constraints"))
		} else {
			errs = append(errs, validateNodeSelector(a.Required, at.Child("nodeAffinity", "required"))...)
		}
	}
	errs = append(errs, validatePersistentSource(s, v.Name, at)...)
	errs = append(errs, validateMountOptions(v)...)
	if s.HostPath != nil && path.Clean(s.HostPath.Path) == "/" && s.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRecycle {
		errs = append(errs, field.Forbidden(at.Child("persistentVolumeReclaimPolicy"), "may not be 'recycle' for a hostPath mount of '/'"))
	}
	if s.StorageClassName != "" {
		errs = append(errs, isSubdomain(s.StorageClassName, at.Child("storageClassName"))...)
	}
	errs = append(errs, optionalOneOf(s.VolumeMode, at.Child("volumeMode"), corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem)...)
	if class := s.VolumeAttributesClassName; class != nil {
		at2 := at.Child("volumeAttributesClassName")
		if *class == "" {
			errs = append(errs, field.Required(at2, "an empty string is disallowed"))
		} else {
			errs = append(errs, isSubdomain(*class, at2)...)
		}
		if s.CSI == nil {
			errs = append(errs, field.Required(at.Child("csi"), "has to be specified when using volumeAttributesClassName"))
		}
	}
	return errs
}

// validateMountOptions lets the options be given where they once were, for those sources only that had them then.
func validateMountOptions(v *corev1.PersistentVolume) field.ErrorList {
	if _, ok := v.Annotations[corev1.MountOptionAnnotation]; !ok {
		return nil
	}
	had := []string{
		"gcePersistentDisk", "awsElasticBlockStore", "glusterfs", "nfs", "rbd", "quobyte", "iscsi", "cinder", "cephFS", "azureFile", "vsphereVolume",
		"azureDisk", "photonPersistentDisk",
	}
	for _, s := range persistentSources(&v.Spec, v.Name) {
		if s.set && slices.Contains(had, s.name) {
			return nil
		}
	}
	return field.ErrorList{field.Forbidden(field.NewPath("metadata", "annotations", corev1.MountOptionAnnotation), "may not specify mount options for this volume type")}
}

// validateAccessModes wants known modes, and a pod's own volume to be only that.
func validateAccessModes(modes []corev1.PersistentVolumeAccessMode, at *field.Path) field.ErrorList {
	known := []corev1.PersistentVolumeAccessMode{corev1.ReadOnlyMany, corev1.ReadWriteMany, corev1.ReadWriteOnce, corev1.ReadWriteOncePod}
	var errs field.ErrorList
	alone, others := false, false
	for _, m := range modes {
		if !slices.Contains(known, m) {
			errs = append(errs, field.NotSupported(at, m, known))
		} else if m == corev1.ReadWriteOncePod {
			alone = true
		} else {
			others = true
		}
	}
	if alone && others {
		errs = append(errs, field.Forbidden(at, "may not use ReadWriteOncePod with other access modes"))
	}
	return errs
}

func validateCapacity(l corev1.ResourceList, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(l) == 0 {
		errs = append(errs, field.Required(at, ""))
	}
	if _, ok := l[corev1.ResourceStorage]; !ok || len(l) > 1 {
		errs = append(errs, field.NotSupported(at, l, []corev1.ResourceName{corev1.ResourceStorage}))
	}
	for _, name := range slices.Sorted(maps.Keys(l)) {
		errs = append(errs, isQuantity(l[name], at.Key(string(name)))...)
		errs = append(errs, isPositive(l[name], at.Key(string(name)))...)
	}
	return errs
}

func isQuantity(q resource.Quantity, at *field.Path) field.ErrorList {
	if q.Value() < 0 {
		return field.ErrorList{field.Invalid(at, q.Value(), "must be a valid resource quantity")}
	}
	return nil
}

func isPositive(q resource.Quantity, at *field.Path) field.ErrorList {
	if q.Sign() <= 0 {
		return field.ErrorList{field.Invalid(at, q.String(), "must be greater than zero")}
	}
	return nil
}

func validatePersistentVolumeUpdate(updated, old *corev1.PersistentVolume) field.ErrorList {
	errs := validatePersistentVolume(updated)
	source := &updated.Spec.PersistentVolumeSource
	if was := old.Spec.CSI; was != nil && was.ControllerExpandSecretRef == nil && source.CSI != nil {
		// May be set once.
		source = source.DeepCopy()
		source.CSI.ControllerExpandSecretRef = nil
	}
	if !isSame(source, &old.Spec.PersistentVolumeSource) {
		errs = append(errs, field.Forbidden(field.NewPath("spec", "persistentvolumesource"),
			"spec.persistentvolumesource is immutable after creation: "+strings.Join(changedFields(source, &old.Spec.PersistentVolumeSource), ", ")))
	}
	errs = append(errs, unchanged(updated.Spec.VolumeMode, old.Spec.VolumeMode, field.NewPath("volumeMode"))...)
	if old.Spec.NodeAffinity != nil && !sameAffinity(updated.Spec.NodeAffinity, old.Spec.NodeAffinity) {
		errs = append(errs, field.Invalid(field.NewPath("nodeAffinity"), updated.Spec.NodeAffinity, "field is immutable, except for updating from beta label to GA"))
	}
	if old.Spec.VolumeAttributesClassName != nil && updated.Spec.VolumeAttributesClassName == nil {
		errs = append(errs, field.Forbidden(field.NewPath("spec", "volumeAttributesClassName"), "update from non-nil value to nil is forbidden"))
	}
	return errs
}

// sameAffinity reports whether the same nodes are meant, by the same labels or by those that replaced them.
func sameAffinity(updated, old *corev1.VolumeNodeAffinity) bool {
	if updated == nil || updated.Required == nil || old.Required == nil || len(updated.Required.NodeSelectorTerms) != len(old.Required.NodeSelectorTerms) {
		return isSame(updated, old)
	}
	renamed := old.DeepCopy()
	for i := range renamed.Required.NodeSelectorTerms {
		was, now := &renamed.Required.NodeSelectorTerms[i], &updated.Required.NodeSelectorTerms[i]
		for j := range was.MatchExpressions {
			key := &was.MatchExpressions[j].Key
			if j < len(now.MatchExpressions) && now.MatchExpressions[j].Key == newLabel(*key) {
				*key = newLabel(*key)
			}
		}
	}
	return isSame(updated, renamed)
}

// newLabel is the name of today for a label of nodes.
func newLabel(name string) string {
	switch name {
	case corev1.LabelFailureDomainBetaZone:
		return corev1.LabelTopologyZone
	case corev1.LabelFailureDomainBetaRegion:
		return corev1.LabelTopologyRegion
	case corev1.LabelInstanceType:
		return corev1.LabelInstanceTypeStable
	case "beta.kubernetes.io/os":
		return corev1.LabelOSStable
	case "beta.kubernetes.io/arch":
		return corev1.LabelArchStable
	}
	return name
}
