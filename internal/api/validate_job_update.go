package api

import (
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateJobUpdate(updated, old *batchv1.Job) field.ErrorList {
	at := field.NewPath("spec")
	now, was := &updated.Spec, &old.Spec
	errs := validateSelectingJobSpec(now, at)
	errs = append(errs, validateCompletions(now, was, at.Child("completions"))...)
	errs = append(errs, unchanged(now.Selector, was.Selector, at.Child("selector"))...)
	errs = append(errs, validateJobTemplateUpdate(updated, old, at)...)
	errs = append(errs, unchanged(now.CompletionMode, was.CompletionMode, at.Child("completionMode"))...)
	errs = append(errs, unchanged(now.PodFailurePolicy, was.PodFailurePolicy, at.Child("podFailurePolicy"))...)
	errs = append(errs, unchanged(now.BackoffLimitPerIndex, was.BackoffLimitPerIndex, at.Child("backoffLimitPerIndex"))...)
	errs = append(errs, unchanged(now.ManagedBy, was.ManagedBy, at.Child("managedBy"))...)
	errs = append(errs, unchanged(now.SuccessPolicy, was.SuccessPolicy, at.Child("successPolicy"))...)
	return append(errs, validatePodNamesOfJob(updated)...)
}

// validateCompletions lets an indexed job become larger or smaller, together with its parallelism.
func validateCompletions(now, was *batchv1.JobSpec, at *field.Path) field.ErrorList {
	switch {
	case !isIndexed(now):
		return unchanged(now.Completions, was.Completions, at)
	case isSame(now.Completions, was.Completions), now.Completions == nil, *now.Completions == orZero(now.Parallelism):
		return nil
	}
	return field.ErrorList{field.Invalid(at, *now.Completions, fmt.Sprintf("can only be modified in tandem with %s", at.Root().Child("parallelism")))}
}

// validateJobTemplateUpdate lets the pods of a job that rests be placed and sized anew; nothing else may change.
func validateJobTemplateUpdate(updated, old *batchv1.Job, at *field.Path) field.ErrorList {
	started := old.Status.StartTime != nil && !hasJobCondition(old, batchv1.JobSuspended, corev1.ConditionTrue)
	if !isSet(old.Spec.Suspend) || started || old.Status.Active > 0 {
		return unchanged(updated.Spec.Template, old.Spec.Template, at.Child("template"))
	}
	now, was := &updated.Spec.Template.Spec, old.Spec.Template.Spec.DeepCopy()
	was.NodeSelector, was.Tolerations, was.SchedulingGates = now.NodeSelector, now.Tolerations, now.SchedulingGates
	was.Affinity = withNodeAffinity(was.Affinity, now.Affinity)
	takeResources(was.Containers, now.Containers)
	takeResources(was.InitContainers, now.InitContainers)
	return unchanged(*now, *was, at.Child("template", "spec"))
}

// withNodeAffinity returns was with the node affinity of now, and nil when both leave nothing.
func withNodeAffinity(was, now *corev1.Affinity) *corev1.Affinity {
	out := orZero(was)
	out.NodeAffinity = orZero(now).NodeAffinity
	if now == nil && out == (corev1.Affinity{}) {
		return nil
	}
	return &out
}

// takeResources gives the containers of to the resources of those of the same name and place in from.
func takeResources(to, from []corev1.Container) {
	if len(to) != len(from) {
		return
	}
	for i := range to {
		if to[i].Name == from[i].Name {
			to[i].Resources = from[i].Resources
		}
	}
}

func hasJobCondition(j *batchv1.Job, t batchv1.JobConditionType, status corev1.ConditionStatus) bool {
	for _, c := range j.Status.Conditions {
		if c.Type == t && c.Status == status {
			return true
		}
	}
	return false
}
