package api

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateClaim(c *corev1.PersistentVolumeClaim) field.ErrorList {
	return validateClaimSpec(&c.Spec, false, field.NewPath("spec"))
}

// validateClaimSpec checks what is claimed; anyGroup lets a data source be of a group that can be none.
func validateClaimSpec(s *corev1.PersistentVolumeClaimSpec, anyGroup bool, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(s.AccessModes) == 0 {
		errs = append(errs, field.Required(at.Child("accessModes"), "at least 1 access mode is required"))
	}
	if s.Selector != nil {
		errs = append(errs, metavalidation.ValidateLabelSelector(s.Selector, metavalidation.LabelSelectorValidationOptions{}, at.Child("selector"))...)
	}
	errs = append(errs, validateAccessModes(s.AccessModes, at.Child("accessModes"))...)
	storage := at.Child("resources").Key(string(corev1.ResourceStorage))
	if size, ok := s.Resources.Requests[corev1.ResourceStorage]; ok {
		errs = append(errs, isPositive(size, storage)...)
	} else {
		errs = append(errs, field.Required(storage, ""))
	}
	if class := deref(s.StorageClassName, ""); class != "" {
		errs = append(errs, isSubdomain(class, at.Child("storageClassName"))...)
	}
	errs = append(errs, optionalOneOf(s.VolumeMode, at.Child("volumeMode"), corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem)...)
	errs = append(errs, validateDataSources(s, anyGroup, at)...)
	if class := deref(s.VolumeAttributesClassName, ""); class != "" {
		errs = append(errs, isSubdomain(class, at.Child("volumeAttributesClassName"))...)
	}
	return errs
}

func validateDataSources(s *corev1.PersistentVolumeClaimSpec, anyGroup bool, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	source, at2 := s.DataSource, at.Child("dataSource")
	if source != nil {
		errs = append(errs, validateDataSource(source.APIGroup, source.Kind, source.Name, anyGroup, at2)...)
	}
	ref := s.DataSourceRef
	if ref == nil {
		return errs
	}
	namespace := deref(ref.Namespace, "")
	errs = append(errs, validateDataSource(ref.APIGroup, ref.Kind, ref.Name, anyGroup, at.Child("dataSourceRef"))...)
	if namespace != "" {
		errs = append(errs, each(at.Child("dataSourceRef", "namespace"), namespace, apivalidation.ValidateNamespaceName(namespace, false))...)
	}
	switch {
	case source == nil:
	case namespace != "":
		errs = append(errs, field.Invalid(at, at2.String(), "may not be specified when dataSourceRef.namespace is specified"))
	case source.Kind != ref.Kind || source.Name != ref.Name || !same(source.APIGroup, ref.APIGroup):
		errs = append(errs, field.Invalid(at, at2.String(), "must match dataSourceRef"))
	}
	return errs
}

func validateDataSource(group *string, kind, name string, anyGroup bool, at *field.Path) field.ErrorList {
	errs := required(name, at.Child("name"))
	errs = append(errs, required(kind, at.Child("kind"))...)
	switch g := deref(group, ""); {
	case g == "" && kind != "PersistentVolumeClaim":
		errs = append(errs, field.Invalid(at, kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup"))
	case g != "" && !anyGroup:
		errs = append(errs, isSubdomain(g, at.Child("apiGroup"))...)
	}
	return errs
}

// validateClaimUpdate: a claim stays what it is, but may get its volume, its class and, when bound, more room.
func validateClaimUpdate(updated, old *corev1.PersistentVolumeClaim) field.ErrorList {
	grouped := old.Spec.DataSource != nil && old.Spec.DataSource.APIGroup != nil || old.Spec.DataSourceRef != nil && old.Spec.DataSourceRef.APIGroup != nil
	errs := validateClaimSpec(&updated.Spec, grouped, field.NewPath("spec"))
	now, was := updated.Spec.DeepCopy(), old.Spec.DeepCopy()
	alignDataSources(was, was)
	if was.VolumeName == "" {
		was.VolumeName = now.VolumeName
	}
	errs = append(errs, allowClass(updated, old, now)...)
	if updated.Status.Phase == corev1.ClaimBound {
		if now.Resources.Requests != nil {
			now.Resources.Requests[corev1.ResourceStorage] = old.Spec.Resources.Requests[corev1.ResourceStorage]
		}
		now.VolumeAttributesClassName = was.VolumeAttributesClassName
	}
	if !isSame(now, was) {
		errs = append(errs, field.Forbidden(field.NewPath("spec"),
			"spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims: "+strings.Join(changedFields(now, was), ", ")))
	}
	size, before := updated.Spec.Resources.Requests[corev1.ResourceStorage], old.Spec.Resources.Requests[corev1.ResourceStorage]
	// An expansion that failed may be taken back, but no volume shrinks.
	if size.Cmp(before) < 0 && size.Cmp(old.Status.Capacity[corev1.ResourceStorage]) <= 0 {
		errs = append(errs, field.Forbidden(field.NewPath("spec", "resources", "requests", "storage"), "field can not be less than status.capacity"))
	}
	errs = append(errs, unchanged(updated.Spec.VolumeMode, old.Spec.VolumeMode, field.NewPath("volumeMode"))...)
	if old.Status.CurrentVolumeAttributesClassName != nil && !same(old.Spec.VolumeAttributesClassName, updated.Spec.VolumeAttributesClassName) {
		at := field.NewPath("spec", "volumeAttributesClassName")
		switch class := updated.Spec.VolumeAttributesClassName; {
		case class == nil:
			errs = append(errs, field.Forbidden(at, "update to nil is forbidden when status.currentVolumeAttributesClassName is not nil"))
		case *class == "":
			errs = append(errs, field.Forbidden(at, "update to empty string is forbidden when status.currentVolumeAttributesClassName is not nil"))
		}
	}
	return errs
}

// allowClass lets a claim without a class get one, and an old annotation become the field; now is changed as if it had not.
func allowClass(updated, old *corev1.PersistentVolumeClaim, now *corev1.PersistentVolumeClaimSpec) field.ErrorList {
	was, annotated := old.Annotations[corev1.BetaStorageClassAnnotation]
	is, still := updated.Annotations[corev1.BetaStorageClassAnnotation]
	class := updated.Spec.StorageClassName
	first := old.Spec.StorageClassName == nil && class != nil
	if first && annotated && *class == was && (!still || is == was) {
		now.StorageClassName = nil
		return nil
	}
	var errs field.ErrorList
	if is != was {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "annotations", corev1.BetaStorageClassAnnotation), is, "field is immutable"))
	}
	if first && (!annotated || *class == was) {
		now.StorageClassName = nil
	}
	return errs
}

func validateClaimStatus(updated, _ *corev1.PersistentVolumeClaim) field.ErrorList {
	s, at := &updated.Status, field.NewPath("status")
	var errs field.ErrorList
	for _, name := range slices.Sorted(maps.Keys(s.Capacity)) {
		errs = append(errs, isQuantity(s.Capacity[name], at.Child("capacity").Key(string(name)))...)
	}
	known := []corev1.ClaimResourceStatus{
		corev1.PersistentVolumeClaimControllerResizeInProgress, corev1.PersistentVolumeClaimControllerResizeInfeasible,
		corev1.PersistentVolumeClaimNodeResizePending, corev1.PersistentVolumeClaimNodeResizeInProgress, corev1.PersistentVolumeClaimNodeResizeInfeasible,
	}
	slices.Sort(known)
	statuses := at.Child("allocatedResourceStatuses")
	for _, name := range slices.Sorted(maps.Keys(s.AllocatedResourceStatuses)) {
		errs = append(errs, validateClaimResource(name, statuses)...)
		if !slices.Contains(known, s.AllocatedResourceStatuses[name]) {
			errs = append(errs, field.NotSupported(statuses, corev1.ClaimResourceStatus(name), known))
		}
	}
	allocated := at.Child("allocatedResources")
	for _, name := range slices.Sorted(maps.Keys(s.AllocatedResources)) {
		bad := validateClaimResource(name, allocated)
		if len(bad) == 0 {
			bad = isQuantity(s.AllocatedResources[name], allocated.Key(string(name)))
		}
		errs = append(errs, bad...)
	}
	return errs
}

// validateClaimResource wants storage, or a resource of somebody's own.
func validateClaimResource(name corev1.ResourceName, at *field.Path) field.ErrorList {
	errs := isQualifiedName(string(name), at)
	if len(errs) == 0 && isNative(name) && name != corev1.ResourceStorage {
		errs = append(errs, field.NotSupported(at, name, []corev1.ResourceName{corev1.ResourceStorage}))
	}
	return errs
}
