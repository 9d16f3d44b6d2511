package api

import (
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateStatefulSet(s *appsv1.StatefulSet) field.ErrorList {
	at := field.NewPath("spec")
	errs := validateStatefulSetSpec(&s.Spec, at, true)
	for i := range s.Spec.VolumeClaimTemplates {
		errs = append(errs, validateClaimTemplate(&s.Spec.VolumeClaimTemplates[i].Spec, at.Child("volumeClaimTemplates").Index(i).Child("spec"))...)
	}
	if s.Spec.ServiceName != "" {
		errs = append(errs, isLabel(s.Spec.ServiceName, at.Child("serviceName"))...)
	}
	return errs
}

// validateStatefulSetSpec checks what may change, of the template only the metadata unless whole is set.
func validateStatefulSetSpec(s *appsv1.StatefulSetSpec, at *field.Path, whole bool) field.ErrorList {
	var errs field.ErrorList
	switch policy := at.Child("podManagementPolicy"); s.PodManagementPolicy {
	case appsv1.OrderedReadyPodManagement, appsv1.ParallelPodManagement:
	case "":
		errs = append(errs, field.Required(policy, ""))
	default:
		errs = append(errs, field.Invalid(policy, s.PodManagementPolicy, "must be 'OrderedReady' or 'Parallel'"))
	}
	errs = append(errs, validateStatefulSetStrategy(&s.UpdateStrategy, at.Child("updateStrategy"))...)
	if p := s.PersistentVolumeClaimRetentionPolicy; p != nil {
		at := at.Child("persistentVolumeClaimRetentionPolicy")
		retain, remove := appsv1.RetainPersistentVolumeClaimRetentionPolicyType, appsv1.DeletePersistentVolumeClaimRetentionPolicyType
		errs = append(errs, optionalOneOf(&p.WhenDeleted, at.Child("whenDeleted"), retain, remove)...)
		errs = append(errs, optionalOneOf(&p.WhenScaled, at.Child("whenScaled"), retain, remove)...)
	}
	errs = append(errs, notNegative(int64(orZero(s.Replicas)), at.Child("replicas"))...)
	errs = append(errs, notNegative(int64(s.MinReadySeconds), at.Child("minReadySeconds"))...)
	if s.Ordinals != nil {
		errs = append(errs, notNegative(int64(s.Ordinals.Start), at.Child("ordinals", "start"))...)
	}
	selector, problems := validateOwnSelector(s.Selector, at.Child("selector"), "statefulset", "")
	errs = append(errs, problems...)
	template := at.Child("template")
	if selector != nil {
		errs = append(errs, validateSelected(selector, s.Template.Labels, template)...)
		if whole {
			errs = append(errs, validatePodTemplate(completeTemplate(s), template)...)
		} else {
			errs = append(errs, validateTemplateMeta(&s.Template, template)...)
		}
	}
	return append(errs, validateLasting(&s.Template.Spec, template.Child("spec"), "StatefulSet")...)
}

// completeTemplate is the template as pods will have it, as far as that can be wrong: a volume for each claim, and no
// names that the controller replaces.
func completeTemplate(s *appsv1.StatefulSetSpec) *corev1.PodTemplateSpec {
	t := s.Template.DeepCopy()
	t.Spec.Hostname, t.Spec.Subdomain = "", ""
	claims := make([]corev1.Volume, 0, len(s.VolumeClaimTemplates)+len(t.Spec.Volumes))
	claimed := seen[string]{}
	for i := range s.VolumeClaimTemplates {
		name := s.VolumeClaimTemplates[i].Name
		if !claimed.add(name) {
			source := corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name}}
			claims = append(claims, corev1.Volume{Name: name, VolumeSource: source})
		}
	}
	own := slices.DeleteFunc(t.Spec.Volumes, func(v corev1.Volume) bool { return claimed[v.Name] })
	t.Spec.Volumes = append(claims, own...)
	return t
}

func validateStatefulSetStrategy(s *appsv1.StatefulSetUpdateStrategy, at *field.Path) field.ErrorList {
	rolling := at.Child("rollingUpdate")
	switch s.Type {
	case "":
		return field.ErrorList{field.Required(at, "")}
	case appsv1.OnDeleteStatefulSetStrategyType:
		if s.RollingUpdate != nil {
			return field.ErrorList{field.Invalid(rolling, s.RollingUpdate, "only allowed for updateStrategy 'RollingUpdate'")}
		}
		return nil
	case appsv1.RollingUpdateStatefulSetStrategyType:
	default:
		return field.ErrorList{field.Invalid(at, s, "must be 'RollingUpdate' or 'OnDelete'")}
	}
	if s.RollingUpdate == nil {
		return nil
	}
	errs := optionalNotNegative(s.RollingUpdate.Partition, rolling.Child("partition"))
	if most := s.RollingUpdate.MaxUnavailable; most != nil {
		at := rolling.Child("maxUnavailable")
		errs = append(errs, isCountOrShare(*most, at)...)
		if countOrShare(*most) == 0 {
			errs = append(errs, field.Invalid(at, *most, "cannot be 0"))
		}
		errs = append(errs, isAtMostAll(*most, at)...)
	}
	return errs
}

// validateClaimTemplate checks what a claim made for each pod asks for.
func validateClaimTemplate(s *corev1.PersistentVolumeClaimSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	modes := at.Child("accessModes")
	if len(s.AccessModes) == 0 {
		errs = append(errs, field.Required(modes, "at least 1 access mode is required"))
	}
	errs = append(errs, metavalidation.ValidateLabelSelector(s.Selector, metavalidation.LabelSelectorValidationOptions{}, at.Child("selector"))...)
	supported := []corev1.PersistentVolumeAccessMode{corev1.ReadOnlyMany, corev1.ReadWriteMany, corev1.ReadWriteOnce, corev1.ReadWriteOncePod}
	for _, m := range s.AccessModes {
		if !slices.Contains(supported, m) {
			errs = append(errs, field.NotSupported(modes, m, supported))
		}
	}
	alone := slices.Contains(s.AccessModes, corev1.ReadWriteOncePod)
	if alone && slices.ContainsFunc(s.AccessModes, func(m corev1.PersistentVolumeAccessMode) bool {
		return m != corev1.ReadWriteOncePod && slices.Contains(supported, m)
	}) {
		errs = append(errs, field.Forbidden(modes, "may not use ReadWriteOncePod with other access modes"))
	}
	size := at.Child("resources").Key(string(corev1.ResourceStorage))
	if q, ok := s.Resources.Requests[corev1.ResourceStorage]; !ok {
		errs = append(errs, field.Required(size, ""))
	} else if q.Sign() <= 0 {
		errs = append(errs, field.Invalid(size, q.String(), "must be greater than zero"))
	}
	if name := orZero(s.StorageClassName); name != "" {
		errs = append(errs, isSubdomain(name, at.Child("storageClassName"))...)
	}
	if name := orZero(s.VolumeAttributesClassName); name != "" {
		errs = append(errs, isSubdomain(name, at.Child("volumeAttributesClassName"))...)
	}
	errs = append(errs, optionalOneOf(s.VolumeMode, at.Child("volumeMode"), corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem)...)
	return append(errs, validateClaimSource(s, at)...)
}

// validateClaimSource checks what a volume is filled with at first, in the old spelling and in the new.
func validateClaimSource(s *corev1.PersistentVolumeClaimSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	typed := func(group *string, kind, name string, at *field.Path) {
		errs = append(errs, required(name, at.Child("name"))...)
		errs = append(errs, required(kind, at.Child("kind"))...)
		if orZero(group) != "" {
			errs = append(errs, isSubdomain(*group, at.Child("apiGroup"))...)
		} else if kind != "PersistentVolumeClaim" {
			errs = append(errs, field.Invalid(at, kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup"))
		}
	}
	from, ref := s.DataSource, s.DataSourceRef
	if from != nil {
		typed(from.APIGroup, from.Kind, from.Name, at.Child("dataSource"))
	}
	if ref == nil {
		return errs
	}
	typed(ref.APIGroup, ref.Kind, ref.Name, at.Child("dataSourceRef"))
	elsewhere := orZero(ref.Namespace) != ""
	if elsewhere {
		errs = append(errs, isLabel(*ref.Namespace, at.Child("dataSourceRef", "namespace"))...)
	}
	switch {
	case from == nil:
	case elsewhere:
		errs = append(errs, field.Invalid(at, at.Child("dataSource").String(), "may not be specified when dataSourceRef.namespace is specified"))
	case orZero(from.APIGroup) != orZero(ref.APIGroup) || from.Kind != ref.Kind || from.Name != ref.Name:
		errs = append(errs, field.Invalid(at, at.Child("dataSource").String(), "must match dataSourceRef"))
	}
	return errs
}

func validateStatefulSetUpdate(updated, old *appsv1.StatefulSet) field.ErrorList {
	at := field.NewPath("spec")
	// A template that was stored when less was checked does not stand in the way of other changes.
	whole := len(validateStatefulSetSpec(&old.Spec, at, true)) == 0
	errs := validateStatefulSetSpec(&updated.Spec, at, whole)
	errs = append(errs, unchanged(updated.Spec.Selector, old.Spec.Selector, at.Child("selector"))...)
	errs = append(errs, unchanged(updated.Spec.VolumeClaimTemplates, old.Spec.VolumeClaimTemplates, at.Child("volumeClaimTemplates"))...)
	errs = append(errs, unchanged(updated.Spec.ServiceName, old.Spec.ServiceName, at.Child("serviceName"))...)
	return append(errs, unchanged(updated.Spec.PodManagementPolicy, old.Spec.PodManagementPolicy, at.Child("podManagementPolicy"))...)
}

func validateStatefulSetStatus(updated, old *appsv1.StatefulSet) field.ErrorList {
	s, c := &updated.Status, counts{at: field.NewPath("status")}
	c.notNegative(int64(s.Replicas), "replicas")
	c.notNegative(int64(s.ReadyReplicas), "readyReplicas")
	c.notNegative(int64(s.CurrentReplicas), "currentReplicas")
	c.notNegative(int64(s.UpdatedReplicas), "updatedReplicas")
	c.notNegative(int64(s.AvailableReplicas), "availableReplicas")
	c.notNegative(s.ObservedGeneration, "observedGeneration")
	c.notNegative(int64(orZero(s.CollisionCount)), "collisionCount")
	c.atMost(s.ReadyReplicas, s.Replicas, "readyReplicas", "status.replicas")
	c.atMost(s.CurrentReplicas, s.Replicas, "currentReplicas", "status.replicas")
	c.atMost(s.UpdatedReplicas, s.Replicas, "updatedReplicas", "status.replicas")
	c.atMost(s.AvailableReplicas, s.Replicas, "availableReplicas", "status.replicas")
	c.atMost(s.AvailableReplicas, s.ReadyReplicas, "availableReplicas", "status.readyReplicas")
	c.notDecremented(s.CollisionCount, old.Status.CollisionCount, "collisionCount")
	return c.errs
}
