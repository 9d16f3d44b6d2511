package api

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateDeployment(d *appsv1.Deployment) field.ErrorList {
	s, at := &d.Spec, field.NewPath("spec")
	errs := validateReplicaTemplate(s.Selector, &s.Template, at)
	errs = append(errs, notNegative(int64(orZero(s.Replicas)), at.Child("replicas"))...)
	errs = append(errs, validateDeploymentStrategy(&s.Strategy, at.Child("strategy"))...)
	errs = append(errs, notNegative(int64(s.MinReadySeconds), at.Child("minReadySeconds"))...)
	errs = append(errs, optionalNotNegative(s.RevisionHistoryLimit, at.Child("revisionHistoryLimit"))...)
	if s.ProgressDeadlineSeconds != nil {
		at := at.Child("progressDeadlineSeconds")
		errs = append(errs, notNegative(int64(*s.ProgressDeadlineSeconds), at)...)
		if *s.ProgressDeadlineSeconds <= s.MinReadySeconds {
			errs = append(errs, field.Invalid(at, *s.ProgressDeadlineSeconds, "must be greater than minReadySeconds"))
		}
	}
	return errs
}

// validateReplicaTemplate checks the selector and the template of a Deployment or a ReplicaSet, whose errors both speak of
// the one in "selector" and of the other in "template".
func validateReplicaTemplate(s *metav1.LabelSelector, t *corev1.PodTemplateSpec, at *field.Path) field.ErrorList {
	selector, errs := validateOwnSelector(s, at.Child("selector"), "deployment", "invalid label selector")
	if selector == nil {
		return errs
	}
	at = at.Child("template")
	errs = append(errs, validateSelected(selector, t.Labels, at)...)
	errs = append(errs, validatePodTemplate(t, at)...)
	return append(errs, validateLasting(&t.Spec, at.Child("spec"), "ReplicaSet")...)
}

func validateDeploymentStrategy(s *appsv1.DeploymentStrategy, at *field.Path) field.ErrorList {
	rolling := at.Child("rollingUpdate")
	switch s.Type {
	case appsv1.RecreateDeploymentStrategyType:
		if s.RollingUpdate != nil {
			return field.ErrorList{field.Forbidden(rolling, "may not be specified when strategy `type` is 'Recreate'")}
		}
		return nil
	case appsv1.RollingUpdateDeploymentStrategyType:
	default:
		return field.ErrorList{field.NotSupported(at, s, []appsv1.DeploymentStrategyType{appsv1.RecreateDeploymentStrategyType, appsv1.RollingUpdateDeploymentStrategyType})}
	}
	if s.RollingUpdate == nil {
		return field.ErrorList{field.Required(rolling, "this should be defaulted and never be nil")}
	}
	unavailable, surge := orZero(s.RollingUpdate.MaxUnavailable), orZero(s.RollingUpdate.MaxSurge)
	errs := isCountOrShare(unavailable, rolling.Child("maxUnavailable"))
	errs = append(errs, isCountOrShare(surge, rolling.Child("maxSurge"))...)
	if countOrShare(unavailable) == 0 && countOrShare(surge) == 0 {
		errs = append(errs, field.Invalid(rolling.Child("maxUnavailable"), unavailable, "may not be 0 when `maxSurge` is 0"))
	}
	return append(errs, isAtMostAll(unavailable, rolling.Child("maxUnavailable"))...)
}

func validateDeploymentUpdate(updated, old *appsv1.Deployment) field.ErrorList {
	return append(validateDeployment(updated), unchanged(updated.Spec.Selector, old.Spec.Selector, field.NewPath("spec", "selector"))...)
}

func validateDeploymentStatus(updated, old *appsv1.Deployment) field.ErrorList {
	s, c := &updated.Status, counts{at: field.NewPath("status")}
	c.notNegative(s.ObservedGeneration, "observedGeneration")
	c.notNegative(int64(s.Replicas), "replicas")
	c.notNegative(int64(s.UpdatedReplicas), "updatedReplicas")
	c.notNegative(int64(s.ReadyReplicas), "readyReplicas")
	c.notNegative(int64(s.AvailableReplicas), "availableReplicas")
	c.notNegative(int64(s.UnavailableReplicas), "unavailableReplicas")
	c.notNegative(int64(orZero(s.TerminatingReplicas)), "terminatingReplicas")
	c.notNegative(int64(orZero(s.CollisionCount)), "collisionCount")
	c.atMost(s.UpdatedReplicas, s.Replicas, "updatedReplicas", "status.replicas")
	c.atMost(s.ReadyReplicas, s.Replicas, "readyReplicas", "status.replicas")
	c.atMost(s.AvailableReplicas, s.Replicas, "availableReplicas", "status.replicas")
	c.atMost(s.AvailableReplicas, s.ReadyReplicas, "availableReplicas", "readyReplicas")
	c.notDecremented(s.CollisionCount, old.Status.CollisionCount, "collisionCount")
	return c.errs
}

func validateReplicaSet(rs *appsv1.ReplicaSet) field.ErrorList {
	at := field.NewPath("spec")
	errs := notNegative(int64(orZero(rs.Spec.Replicas)), at.Child("replicas"))
	errs = append(errs, notNegative(int64(rs.Spec.MinReadySeconds), at.Child("minReadySeconds"))...)
	return append(errs, validateReplicaTemplate(rs.Spec.Selector, &rs.Spec.Template, at)...)
}

func validateReplicaSetUpdate(updated, old *appsv1.ReplicaSet) field.ErrorList {
	return append(validateReplicaSet(updated), unchanged(updated.Spec.Selector, old.Spec.Selector, field.NewPath("spec", "selector"))...)
}

func validateReplicaSetStatus(updated, _ *appsv1.ReplicaSet) field.ErrorList {
	s, c := &updated.Status, counts{at: field.NewPath("status")}
	c.notNegative(int64(s.Replicas), "replicas")
	c.notNegative(int64(s.FullyLabeledReplicas), "fullyLabeledReplicas")
	c.notNegative(int64(s.ReadyReplicas), "readyReplicas")
	c.notNegative(int64(s.AvailableReplicas), "availableReplicas")
	c.notNegative(s.ObservedGeneration, "observedGeneration")
	c.notNegative(int64(orZero(s.TerminatingReplicas)), "terminatingReplicas")
	c.atMost(s.FullyLabeledReplicas, s.Replicas, "fullyLabeledReplicas", "status.replicas")
	c.atMost(s.ReadyReplicas, s.Replicas, "readyReplicas", "status.replicas")
	c.atMost(s.AvailableReplicas, s.Replicas, "availableReplicas", "status.replicas")
	c.atMost(s.AvailableReplicas, s.ReadyReplicas, "availableReplicas", "readyReplicas")
	return c.errs
}
