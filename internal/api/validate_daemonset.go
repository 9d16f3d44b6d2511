package api

import (
	"encoding/json"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateDaemonSet(d *appsv1.DaemonSet) field.ErrorList {
	s, at := &d.Spec, field.NewPath("spec")
	errs := validateTemplateGeneration(d.Annotations)
	errs = append(errs, metavalidation.ValidateLabelSelector(s.Selector, metavalidation.LabelSelectorValidationOptions{}, at.Child("selector"))...)
	template := at.Child("template")
	if selector, err := metav1.LabelSelectorAsSelector(s.Selector); err == nil {
		errs = append(errs, validateSelected(selector, s.Template.Labels, template)...)
	}
	if s.Selector != nil && len(s.Selector.MatchLabels)+len(s.Selector.MatchExpressions) == 0 {
		errs = append(errs, field.Invalid(at.Child("selector"), s.Selector, "empty selector is invalid for daemonset"))
	}
	errs = append(errs, validatePodTemplate(&s.Template, template)...)
	errs = append(errs, validateLasting(&s.Template.Spec, template.Child("spec"), "DaemonSet")...)
	errs = append(errs, notNegative(int64(s.MinReadySeconds), at.Child("minReadySeconds"))...)
	errs = append(errs, validateDaemonSetStrategy(&s.UpdateStrategy, at.Child("updateStrategy"))...)
	return append(errs, optionalNotNegative(s.RevisionHistoryLimit, at.Child("revisionHistoryLimit"))...)
}

func validateTemplateGeneration(annotations map[string]string) field.ErrorList {
	value, had := annotations[appsv1.DeprecatedTemplateGeneration]
	if _, err := strconv.ParseInt(value, 10, 64); had && err != nil {
		return field.ErrorList{field.Invalid(field.NewPath("metadata", "annotations").Key(appsv1.DeprecatedTemplateGeneration), value, "must be a number")}
	}
	return nil
}

// validateDaemonSetStrategy wants either some pods that may be missing or some that may be too many, not both.
func validateDaemonSetStrategy(s *appsv1.DaemonSetUpdateStrategy, at *field.Path) field.ErrorList {
	switch s.Type {
	case appsv1.OnDeleteDaemonSetStrategyType:
		return nil
	case appsv1.RollingUpdateDaemonSetStrategyType:
	default:
		return field.ErrorList{field.NotSupported(at, s, []appsv1.DaemonSetUpdateStrategyType{appsv1.RollingUpdateDaemonSetStrategyType, appsv1.OnDeleteDaemonSetStrategyType})}
	}
	if s.RollingUpdate == nil {
		return field.ErrorList{field.Required(at.Child("rollingUpdate"), "")}
	}
	unavailable, surge := orZero(s.RollingUpdate.MaxUnavailable), orZero(s.RollingUpdate.MaxSurge)
	atUnavailable, atSurge := at.Child("rollingUpdate", "maxUnavailable"), at.Child("rollingUpdate", "maxSurge")
	errs := isCountOrShare(unavailable, atUnavailable)
	errs = append(errs, isCountOrShare(surge, atSurge)...)
	errs = append(errs, isAtMostAll(unavailable, atUnavailable)...)
	errs = append(errs, isAtMostAll(surge, atSurge)...)
	switch missing, more := countOrShare(unavailable) != 0, countOrShare(surge) != 0; {
	case missing && more:
		errs = append(errs, field.Invalid(atSurge, surge, "may not be set when maxUnavailable is non-zero"))
	case !missing && !more:
		errs = append(errs, field.Required(atUnavailable, "cannot be 0 when maxSurge is 0"))
	}
	return errs
}

func validateDaemonSetUpdate(updated, old *appsv1.DaemonSet) field.ErrorList {
	return append(validateDaemonSet(updated), unchanged(updated.Spec.Selector, old.Spec.Selector, field.NewPath("spec", "selector"))...)
}

func validateDaemonSetStatus(updated, old *appsv1.DaemonSet) field.ErrorList {
	s, c := &updated.Status, counts{at: field.NewPath("status")}
	c.notNegative(int64(s.CurrentNumberScheduled), "currentNumberScheduled")
	c.notNegative(int64(s.NumberMisscheduled), "numberMisscheduled")
	c.notNegative(int64(s.DesiredNumberScheduled), "desiredNumberScheduled")
	c.notNegative(int64(s.NumberReady), "numberReady")
	c.notNegative(s.ObservedGeneration, "observedGeneration")
	c.notNegative(int64(s.UpdatedNumberScheduled), "updatedNumberScheduled")
	c.notNegative(int64(s.NumberAvailable), "numberAvailable")
	c.notNegative(int64(s.NumberUnavailable), "numberUnavailable")
	c.notNegative(int64(orZero(s.CollisionCount)), "collisionCount")
	c.notDecremented(s.CollisionCount, old.Status.CollisionCount, "collisionCount")
	return c.errs
}

// validateControllerRevision wants data that is an object, so that a patch can be made of it.
func validateControllerRevision(r *appsv1.ControllerRevision) field.ErrorList {
	errs := notNegative(r.Revision, field.NewPath("revision"))
	at := field.NewPath("data")
	if r.Data.Raw == nil {
		return append(errs, field.Required(at, "data is mandatory"))
	}
	var data any
	err := json.Unmarshal(r.Data.Raw, &data)
	_, isObject := data.(map[string]any)
	switch {
	case err != nil:
		errs = append(errs, field.Invalid(at, "<value omitted>", "error parsing data: "+err.Error()))
	case data == nil:
		errs = append(errs, field.Required(at, "data is mandatory"))
	case !isObject:
		errs = append(errs, field.Required(at, "data must be a valid JSON object"))
	}
	return errs
}

func validateControllerRevisionUpdate(updated, old *appsv1.ControllerRevision) field.ErrorList {
	return append(notNegative(updated.Revision, field.NewPath("revision")), unchanged(updated.Data, old.Data, field.NewPath("data"))...)
}
