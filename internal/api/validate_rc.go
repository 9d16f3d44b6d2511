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
	return append(errs, validateLasting(&spec.Template.Spec, template.Child("spec"), "ReplicationController")...)
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
	s, c := &updated.Status, counts{at: field.NewPath("status")}
	c.notNegative(int64(s.Replicas), "replicas")
	c.notNegative(int64(s.FullyLabeledReplicas), "fullyLabeledReplicas")
	c.notNegative(int64(s.ReadyReplicas), "readyReplicas")
	c.notNegative(int64(s.AvailableReplicas), "availableReplicas")
	c.notNegative(s.ObservedGeneration, "observedGeneration")
	c.atMost(s.FullyLabeledReplicas, s.Replicas, "fullyLabeledReplicas", "status.replicas")
	c.atMost(s.ReadyReplicas, s.Replicas, "readyReplicas", "status.replicas")
	c.atMost(s.AvailableReplicas, s.Replicas, "availableReplicas", "status.replicas")
	c.atMost(s.AvailableReplicas, s.ReadyReplicas, "availableReplicas", "readyReplicas")
	return c.errs
}
