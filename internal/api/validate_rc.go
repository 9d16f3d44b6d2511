package api

import (
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateReplicationController(rc *corev1.ReplicationController) field.ErrorList {
	spec, at := &rc.Spec, field.NewPath("spec")
	errs := notNegative(int64(spec.MinReadySeconds), at.Child("minReadySeconds"))
	if len(spec.Selector) == 0 {
		errs = append(errs, field.Required(at.Child("selector"), ""))
	}
	if spec.Replicas == nil {
		errs = append(errs, field.Required(at.Child("replicas"), ""))
	} else {
		errs = append(errs, notNegative(int64(*spec.Replicas), at.Child("replicas"))...)
	}
	template := at.Child("template")
	if spec.Template == nil {
		return append(errs, field.Required(template, ""))
	}
	if len(spec.Selector) > 0 && !Selects(spec.Selector, spec.Template.Labels) {
		errs = append(errs, field.Invalid(template.Child("metadata", "labels"), spec.Template.Labels, "`selector` does not match template `labels`"))
	}
	errs = append(errs, validatePodTemplate(spec.Template, template)...)
	// Replicas that end and are not started again would be made anew without end.
	if p := spec.Template.Spec.RestartPolicy; p != corev1.RestartPolicyAlways {
		errs = append(errs, field.NotSupported(template.Child("spec", "restartPolicy"), p, []corev1.RestartPolicy{corev1.RestartPolicyAlways}))
	}
	if spec.Template.Spec.ActiveDeadlineSeconds != nil {
		errs = append(errs, field.Forbidden(template.Child("spec", "activeDeadlineSeconds"), "activeDeadlineSeconds in ReplicationController is not Supported"))
	}
	return errs
}

func validatePodTemplate(t *corev1.PodTemplateSpec, at *field.Path) field.ErrorList {
	errs := validateTemplateMeta(t, at)
	errs = append(errs, validatePodSpec(&t.Spec, at.Child("spec"))...)
	if len(t.Spec.EphemeralContainers) > 0 {
		errs = append(errs, field.Forbidden(at.Child("spec", "ephemeralContainers"), "ephemeral containers not allowed in pod template"))
	}
	return errs
}

func validateTemplateMeta(t *corev1.PodTemplateSpec, at *field.Path) field.ErrorList {
	errs := metavalidation.ValidateLabels(t.Labels, at.Child("labels"))
	return append(errs, apivalidation.ValidateAnnotations(t.Annotations, at.Child("annotations"))...)
}

func validateReplicationControllerUpdate(updated, _ *corev1.ReplicationController) field.ErrorList {
	return validateReplicationController(updated)
}

func validateReplicationControllerStatus(updated, _ *corev1.ReplicationController) field.ErrorList {
	s, at := &updated.Status, field.NewPath("status")
	errs := notNegative(int64(s.Replicas), at.Child("replicas"))
	errs = append(errs, notNegative(int64(s.FullyLabeledReplicas), at.Child("fullyLabeledReplicas"))...)
	errs = append(errs, notNegative(int64(s.ReadyReplicas), at.Child("readyReplicas"))...)
	errs = append(errs, notNegative(int64(s.AvailableReplicas), at.Child("availableReplicas"))...)
	errs = append(errs, notNegative(s.ObservedGeneration, at.Child("observedGeneration"))...)
	atMost := func(n, most int32, name, text string) {
		if n > most {
			errs = append(errs, field.Invalid(at.Child(name), n, text))
		}
	}
	atMost(s.FullyLabeledReplicas, s.Replicas, "fullyLabeledReplicas", "cannot be greater than status.replicas")
	atMost(s.ReadyReplicas, s.Replicas, "readyReplicas", "cannot be greater than status.replicas")
	atMost(s.AvailableReplicas, s.Replicas, "availableReplicas", "cannot be greater than status.replicas")
	atMost(s.AvailableReplicas, s.ReadyReplicas, "availableReplicas", "cannot be greater than readyReplicas")
	return errs
}
