package api

import (
	"math"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const maxMetadataSize = 256 << 10

func validateStorageClass(c *storagev1.StorageClass) field.ErrorList {
	var errs field.ErrorList
	if c.Provisioner == "" {
		errs = append(errs, field.Required(field.NewPath("provisioner"), ""))
	} else {
		errs = append(errs, isQualifiedName(strings.ToLower(c.Provisioner), field.NewPath("provisioner"))...)
	}
	errs = append(errs, validateProvisionerParameters(c.Parameters, field.NewPath("parameters"))...)
	if p := deref(c.ReclaimPolicy, ""); p != "" {
		errs = append(errs, oneOf(p, field.NewPath("reclaimPolicy"), corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRetain)...)
	}
	if c.VolumeBindingMode == nil {
		errs = append(errs, field.Required(field.NewPath("volumeBindingMode"), ""))
	} else {
		errs = append(errs, optionalOneOf(c.VolumeBindingMode, field.NewPath("volumeBindingMode"), storagev1.VolumeBindingImmediate, storagev1.VolumeBindingWaitForFirstConsumer)...)
	}
	return append(errs, validateTopologies(c.AllowedTopologies, field.NewPath("allowedTopologies"))...)
}

func validateProvisionerParameters(parameters map[string]string, at *field.Path) field.ErrorList {
	const most = 512
	if len(parameters) > most {
		return field.ErrorList{field.TooLong(at, "", most)}
	}
	var errs field.ErrorList
	if _, ok := parameters[""]; ok {
		errs = append(errs, field.Invalid(at, "", "field can not be empty."))
	}
	return append(errs, notTooMuch(parameters, at)...)
}

func notTooMuch(m map[string]string, at *field.Path) field.ErrorList {
	size := 0
	for k, v := range m {
		size += len(k) + len(v)
	}
	if size > maxMetadataSize {
		return field.ErrorList{field.TooLong(at, "", maxMetadataSize)}
	}
	return nil
}

// validateTopologies wants terms that differ from each other and from none at all.
func validateTopologies(terms []corev1.TopologySelectorTerm, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	known := []map[string][]string{{}}
	for i, t := range terms {
		at := at.Index(i).Child("matchLabelExpressions")
		term := map[string][]string{}
		for j, r := range t.MatchLabelExpressions {
			at, values := at.Index(j), seen[string]{}
			if len(r.Values) == 0 {
				errs = append(errs, field.Required(at.Child("values"), ""))
			}
			for n, v := range r.Values {
				if values.add(v) {
					errs = append(errs, field.Duplicate(at.Child("values").Index(n), v))
				}
			}
			errs = append(errs, metavalidation.ValidateLabelName(r.Key, at.Child("key"))...)
			if _, ok := term[r.Key]; ok {
				errs = append(errs, field.Duplicate(at.Child("key"), r.Key))
			}
			term[r.Key] = slices.Compact(slices.Sorted(slices.Values(r.Values)))
		}
		if slices.ContainsFunc(known, func(other map[string][]string) bool { return isSame(term, other) }) {
			errs = append(errs, field.Duplicate(at, ""))
		}
		known = append(known, term)
	}
	return errs
}

func validateStorageClassUpdate(updated, old *storagev1.StorageClass) field.ErrorList {
	errs := validateStorageClass(updated)
	errs = append(errs, unchanged(updated.Parameters, old.Parameters, field.NewPath("parameters"))...)
	errs = append(errs, unchanged(updated.Provisioner, old.Provisioner, field.NewPath("provisioner"))...)
	errs = append(errs, unchanged(updated.ReclaimPolicy, old.ReclaimPolicy, field.NewPath("reclaimPolicy"))...)
	return append(errs, unchanged(updated.VolumeBindingMode, old.VolumeBindingMode, field.NewPath("volumeBindingMode"))...)
}

func validateVolumeAttributesClass(c *storagev1.VolumeAttributesClass) field.ErrorList {
	errs := isDriverName(c.DriverName, field.NewPath("driverName"))
	if len(c.Parameters) == 0 {
		return append(errs, field.Required(field.NewPath("parameters"), "must contain at least one key/value pair"))
	}
	return append(errs, validateProvisionerParameters(c.Parameters, field.NewPath("parameters"))...)
}

func validateVolumeAttributesClassUpdate(updated, old *storagev1.VolumeAttributesClass) field.ErrorList {
	errs := validateVolumeAttributesClass(updated)
	errs = append(errs, unchanged(updated.DriverName, old.DriverName, field.NewPath("driverName"))...)
	return append(errs, unchanged(updated.Parameters, old.Parameters, field.NewPath("parameters"))...)
}

func validateVolumeAttachment(a *storagev1.VolumeAttachment) field.ErrorList {
	at := field.NewPath("spec")
	errs := isDriverName(a.Spec.Attacher, at.Child("attacher"))
	volume, inline, source := a.Spec.Source.PersistentVolumeName, a.Spec.Source.InlineVolumeSpec, at.Child("source")
	const one = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
	switch {
	case volume == nil && inline == nil:
		errs = append(errs, field.Required(source, one))
	case volume != nil && inline != nil:
		errs = append(errs, field.Forbidden(source, one))
	case inline != nil:
		errs = append(errs, validateInlineVolume(inline, source.Child("inlineVolumeSpec"))...)
	case *volume == "":
		errs = append(errs, field.Required(source.Child("persistentVolumeName"), "must specify non empty persistentVolumeName"))
	}
	if volume != nil {
		errs = append(errs, isSubdomain(*volume, source.Child("persistentVolumeName"))...)
	}
	errs = append(errs, isSubdomain(a.Spec.NodeName, at.Child("nodeName"))...)
	at = field.NewPath("status")
	errs = append(errs, notTooMuch(a.Status.AttachmentMetadata, at.Child("attachmentMetadata"))...)
	errs = append(errs, validateVolumeError(a.Status.AttachError, at.Child("attachError"))...)
	return append(errs, validateVolumeError(a.Status.DetachError, at.Child("detachError"))...)
}

// validateInlineVolume checks a volume that was migrated from a pod: it is CSI's and nobody else's.
func validateInlineVolume(s *corev1.PersistentVolumeSpec, at *field.Path) field.ErrorList {
	const context = " in the context of inline volumes"
	var errs field.ErrorList
	forbid := func(set bool, name, text string) {
		if set {
			errs = append(errs, field.Forbidden(at.Child(name), text+context))
		}
	}
	forbid(s.ClaimRef != nil, "claimRef", "may not be specified")
	forbid(len(s.Capacity) > 0, "capacity", "may not be specified")
	if s.CSI == nil {
		errs = append(errs, field.Required(at.Child("csi"), "has to be specified"+context))
	}
	if len(s.AccessModes) == 0 {
		errs = append(errs, field.Required(at.Child("accessModes"), ""))
	}
	errs = append(errs, validateAccessModes(s.AccessModes, at.Child("accessModes"))...)
	p := s.PersistentVolumeReclaimPolicy
	forbid(p != "" && p != corev1.PersistentVolumeReclaimRetain, "persistentVolumeReclaimPolicy", "may only be Retain")
	forbid(s.NodeAffinity != nil, "nodeAffinity", "may not be specified")
	errs = append(errs, validatePersistentSource(s, "", at)...)
	forbid(s.StorageClassName != "", "storageClassName", "may not be specified")
	forbid(deref(s.VolumeMode, corev1.PersistentVolumeFilesystem) != corev1.PersistentVolumeFilesystem, "volumeMode", "may not specify volumeMode other than Filesystem")
	return errs
}

func validateVolumeError(e *storagev1.VolumeError, at *field.Path) field.ErrorList {
	const most = 1024
	if e == nil {
		return nil
	}
	var errs field.ErrorList
	if len(e.Message) > most {
		errs = append(errs, field.TooLong(at.Child("message"), "", most))
	}
	if e.ErrorCode != nil && *e.ErrorCode < 0 {
		errs = append(errs, field.Invalid(at.Child("errorCode"), *e.ErrorCode, validation.InclusiveRangeError(0, math.MaxInt32)))
	}
	return errs
}

func validateVolumeAttachmentUpdate(updated, old *storagev1.VolumeAttachment) field.ErrorList {
	return append(validateVolumeAttachment(updated), unchanged(updated.Spec, old.Spec, field.NewPath("spec"))...)
}
