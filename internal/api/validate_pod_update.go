package api

import (
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validatePodUpdate: of a pod's spec only images, the deadline, added tolerations and lifted gates may change.
func validatePodUpdate(updated, old *corev1.Pod) field.ErrorList {
	at := field.NewPath("spec")
	errs := validatePodAnnotations(updated)
	if len(updated.Spec.Containers) != len(old.Spec.Containers) {
		return append(errs, field.Forbidden(at.Child("containers"), "pod updates may not add or remove containers"))
	}
	if len(updated.Spec.InitContainers) != len(old.Spec.InitContainers) {
		return append(errs, field.Forbidden(at.Child("initContainers"), "pod updates may not add or remove containers"))
	}
	errs = append(errs, validateImages(updated.Spec.Containers, at.Child("containers"))...)
	errs = append(errs, validateImages(updated.Spec.InitContainers, at.Child("initContainers"))...)
	errs = append(errs, validateDeadline(updated.Spec.ActiveDeadlineSeconds, old.Spec.ActiveDeadlineSeconds, at.Child("activeDeadlineSeconds"))...)
	errs = append(errs, validateAddedTolerations(updated.Spec.Tolerations, old.Spec.Tolerations, at.Child("tolerations"))...)
	errs = append(errs, validateLiftedGates(updated.Spec.SchedulingGates, old.Spec.SchedulingGates, at.Child("schedulingGates"))...)
	if changed := changedFields(withoutMutable(updated, old), &old.Spec); len(changed) > 0 {
		errs = append(errs, field.Forbidden(at, "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"+
			"`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` "+
			"(allow it to be set to 1 if it was previously negative)\nchanged: "+strings.Join(changed, ", ")))
	}
	return errs
}

// withoutMutable returns updated's spec with old's values of everything that may change.
func withoutMutable(updated, old *corev1.Pod) *corev1.PodSpec {
	s := updated.Spec.DeepCopy()
	for i := range s.Containers {
		s.Containers[i].Image = old.Spec.Containers[i].Image
	}
	for i := range s.InitContainers {
		s.InitContainers[i].Image = old.Spec.InitContainers[i].Image
	}
	s.ActiveDeadlineSeconds = old.Spec.ActiveDeadlineSeconds
	s.Tolerations = old.Spec.Tolerations
	s.SchedulingGates = old.Spec.SchedulingGates
	if g := old.Spec.TerminationGracePeriodSeconds; g != nil && *g < 0 && s.TerminationGracePeriodSeconds != nil && *s.TerminationGracePeriodSeconds == 1 {
		s.TerminationGracePeriodSeconds = g
	}
	// A pod that waits for its gates has not been placed yet: it may become choosier.
	if len(old.Spec.SchedulingGates) > 0 && keepsAll(s.NodeSelector, old.Spec.NodeSelector) {
		s.NodeSelector = old.Spec.NodeSelector
	}
	return s
}

func keepsAll(updated, old map[string]string) bool {
	for k, v := range old {
		if w, ok := updated[k]; !ok || w != v {
			return false
		}
	}
	return true
}

// changedFields names the fields in which two specs differ.
func changedFields[T any](a, b *T) []string {
	var names []string
	x, y := reflect.ValueOf(*a), reflect.ValueOf(*b)
	for i := range x.NumField() {
		if !isSame(x.Field(i).Interface(), y.Field(i).Interface()) {
			name, _, _ := strings.Cut(x.Type().Field(i).Tag.Get("json"), ",")
			names = append(names, "spec."+name)
		}
	}
	return names
}

func validateImages(containers []corev1.Container, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range containers {
		at := at.Index(i).Child("image")
		if image := containers[i].Image; image == "" {
			errs = append(errs, field.Required(at, ""))
		} else if strings.TrimSpace(image) != image {
			errs = append(errs, field.Invalid(at, image, "must not have leading or trailing whitespace"))
		}
	}
	return errs
}

func validateDeadline(updated, old *int64, at *field.Path) field.ErrorList {
	switch {
	case updated != nil && (*updated < 0 || *updated > 1<<31-1):
		return field.ErrorList{field.Invalid(at, *updated, "must be between 0 and 2147483647, inclusive")}
	case updated != nil && old != nil && *updated > *old:
		return field.ErrorList{field.Invalid(at, *updated, "must be less than or equal to previous value")}
	case updated == nil && old != nil:
		return field.ErrorList{field.Invalid(at, nil, "must not update from a positive integer to nil value")}
	}
	return nil
}

func validateAddedTolerations(updated, old []corev1.Toleration, at *field.Path) field.ErrorList {
	for i := range old {
		found := false
		for j := range updated {
			// How long may change, what is tolerated may not.
			t := updated[j]
			t.TolerationSeconds = old[i].TolerationSeconds
			found = found || isSame(t, old[i])
		}
		if !found {
			return append(field.ErrorList{field.Forbidden(at, "existing toleration can not be modified except its tolerationSeconds")},
				validateTolerations(updated, at)...)
		}
	}
	return validateTolerations(updated, at)
}

func validateLiftedGates(updated, old []corev1.PodSchedulingGate, at *field.Path) field.ErrorList {
	had := seen[string]{}
	for _, g := range old {
		had.add(g.Name)
	}
	var errs field.ErrorList
	for _, g := range updated {
		if !had[g.Name] {
			errs = append(errs, field.Forbidden(at, "only deletion is allowed, but found new scheduling gate '"+g.Name+"'"))
		}
	}
	return errs
}

func validatePodStatus(updated, old *corev1.Pod) field.ErrorList {
	at := field.NewPath("status")
	var errs field.ErrorList
	if updated.Status.NominatedNodeName != "" {
		errs = append(errs, isSubdomain(updated.Status.NominatedNodeName, at.Child("nominatedNodeName"))...)
	}
	if old.Spec.RestartPolicy != corev1.RestartPolicyAlways {
		errs = append(errs, validateNoRevival(updated.Status.ContainerStatuses, old.Status.ContainerStatuses, old.Spec.RestartPolicy, at.Child("containerStatuses"))...)
	}
	conditions := at.Child("conditions")
	for i, c := range updated.Status.Conditions {
		if !strings.Contains(string(c.Type), "/") {
			continue
		}
		errs = append(errs, isQualifiedName(string(c.Type), conditions.Index(i).Child("type"))...)
	}
	if old.Status.QOSClass != "" && updated.Status.QOSClass != old.Status.QOSClass {
		errs = append(errs, field.Invalid(at.Child("qosClass"), updated.Status.QOSClass, "field is immutable"))
	}
	return append(errs, validateAddresses(&updated.Status)...)
}

// validateNoRevival: a container that may not be started again stays ended.
func validateNoRevival(updated, old []corev1.ContainerStatus, policy corev1.RestartPolicy, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range old {
		was := old[i].State.Terminated
		if was == nil || (was.ExitCode != 0 && policy == corev1.RestartPolicyOnFailure) {
			continue
		}
		for j := range updated {
			if updated[j].Name == old[i].Name && updated[j].State.Terminated == nil {
				errs = append(errs, field.Forbidden(at.Index(j).Child("state"), "may not be transitioned to non-terminated state"))
			}
		}
	}
	return errs
}
