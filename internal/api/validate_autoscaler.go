package api

import (
	"errors"
	"fmt"
	"slices"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateAutoscaler(a *autoscalingv2.HorizontalPodAutoscaler) field.ErrorList {
	return validateAutoscalerSpec(&a.Spec, false, false)
}

// validateAutoscalerUpdate does not look again at a version that is stored already.
func validateAutoscalerUpdate(updated, old *autoscalingv2.HorizontalPodAutoscaler) field.ErrorList {
	now, was := updated.Spec.ScaleTargetRef, old.Spec.ScaleTargetRef
	anyVersion := slices.ContainsFunc(old.Spec.Metrics, func(m autoscalingv2.MetricSpec) bool {
		return m.Type == autoscalingv2.ObjectMetricSourceType && m.Object != nil && versionProblem(m.Object.DescribedObject.APIVersion, true) != nil
	})
	return validateAutoscalerSpec(&updated.Spec, now.APIVersion == was.APIVersion && now.Kind == was.Kind, anyVersion)
}

func validateAutoscalerSpec(s *autoscalingv2.HorizontalPodAutoscalerSpec, anyTarget, anyObject bool) field.ErrorList {
	at := field.NewPath("spec")
	var errs field.ErrorList
	if s.MinReplicas != nil {
		errs = append(errs, notNegative(int64(*s.MinReplicas), at.Child("minReplicas"))...)
	}
	switch {
	case s.MaxReplicas == 0:
		errs = append(errs, field.Required(at.Child("maxReplicas"), "must be set and greater than 0"))
	case s.MaxReplicas < 0:
		errs = append(errs, field.Invalid(at.Child("maxReplicas"), s.MaxReplicas, "must be greater than or equal to 1"))
	}
	if s.MinReplicas != nil && s.MaxReplicas < *s.MinReplicas {
		errs = append(errs, field.Invalid(at.Child("maxReplicas"), s.MaxReplicas, "must be greater than or equal to `minReplicas`"))
	}
	// Replication controllers are the only kind of the core group that scales.
	errs = append(errs, validateTarget(&s.ScaleTargetRef, anyTarget, s.ScaleTargetRef.Kind == "ReplicationController", at.Child("scaleTargetRef"))...)
	external := false
	for i := range s.Metrics {
		m := &s.Metrics[i]
		external = external || m.Type == autoscalingv2.ObjectMetricSourceType || m.Type == autoscalingv2.ExternalMetricSourceType
		errs = append(errs, validateMetric(m, anyObject, at.Child("metrics").Index(i))...)
	}
	if deref(s.MinReplicas, 1) == 0 && !external {
		errs = append(errs, field.Forbidden(at.Child("metrics"), "must specify at least one Object or External metric to support scaling to zero replicas"))
	}
	if b := s.Behavior; b != nil {
		errs = append(errs, validateScalingRules(b.ScaleUp, at.Child("behavior", "scaleUp"))...)
		errs = append(errs, validateScalingRules(b.ScaleDown, at.Child("behavior", "scaleDown"))...)
	}
	return errs
}

// validateTarget checks what names a scaled or described object: of any version when it is stored already.
func validateTarget(r *autoscalingv2.CrossVersionObjectReference, anyVersion, core bool, at *field.Path) field.ErrorList {
	errs := namesObject(nil, r.Kind, r.Name, at)
	if anyVersion {
		return errs
	}
	if err := versionProblem(r.APIVersion, core); err != nil {
		errs = append(errs, field.Invalid(at.Child("apiVersion"), r.APIVersion, err.Error()))
	}
	return errs
}

func versionProblem(version string, core bool) error {
	gv, err := schema.ParseGroupVersion(version)
	if err == nil && gv.Group == "" && !core {
		err = errors.New("apiVersion must specify API group")
	}
	return err
}

func validateScalingRules(r *autoscalingv2.HPAScalingRules, at *field.Path) field.ErrorList {
	const longestWindow, longestPeriod = 3600, 1800
	if r == nil {
		return nil
	}
	var errs field.ErrorList
	if n := r.StabilizationWindowSeconds; n != nil && *n < 0 {
		errs = append(errs, field.Invalid(at.Child("stabilizationWindowSeconds"), *n, "must be greater than or equal to zero"))
	} else if n != nil && *n > longestWindow {
		errs = append(errs, field.Invalid(at.Child("stabilizationWindowSeconds"), *n, fmt.Sprintf("must be less than or equal to %d", longestWindow)))
	}
	errs = append(errs, optionalOneOf(r.SelectPolicy, at.Child("selectPolicy"), autoscalingv2.DisabledPolicySelect, autoscalingv2.MaxChangePolicySelect, autoscalingv2.MinChangePolicySelect)...)
	if len(r.Policies) == 0 {
		errs = append(errs, field.Required(at.Child("policies"), "must specify at least one Policy"))
	}
	for i, p := range r.Policies {
		at := at.Child("policies").Index(i)
		errs = append(errs, optionalOneOf(&p.Type, at.Child("type"), autoscalingv2.PercentScalingPolicy, autoscalingv2.PodsScalingPolicy)...)
		if p.Value <= 0 {
			errs = append(errs, field.Invalid(at.Child("value"), p.Value, "must be greater than zero"))
		}
		if p.PeriodSeconds <= 0 {
			errs = append(errs, field.Invalid(at.Child("periodSeconds"), p.PeriodSeconds, "must be greater than zero"))
		} else if p.PeriodSeconds > longestPeriod {
			errs = append(errs, field.Invalid(at.Child("periodSeconds"), p.PeriodSeconds, fmt.Sprintf("must be less than or equal to %d", longestPeriod)))
		}
	}
	if t := r.Tolerance; t != nil && t.Sign() < 0 {
		errs = append(errs, field.Invalid(at.Child("tolerance"), t.String(), "must be greater than or equal to 0"))
	}
	return errs
}

func validateAutoscalerStatus(updated, _ *autoscalingv2.HorizontalPodAutoscaler) field.ErrorList {
	s, at := &updated.Status, field.NewPath("status")
	var errs field.ErrorList
	for i, c := range s.Conditions {
		errs = append(errs, notNegative(deref(c.ObservedGeneration, 0), at.Child("conditions").Index(i).Child("observedGeneration"))...)
	}
	errs = append(errs, notNegative(int64(s.CurrentReplicas), at.Child("currentReplicas"))...)
	return append(errs, notNegative(int64(s.DesiredReplicas), at.Child("desiredReplicas"))...)
}
