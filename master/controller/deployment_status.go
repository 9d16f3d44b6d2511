package controller

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Reasons of the condition Progressing, as kubectl and others look for them.
const (
	reasonSetCreateError   = "ReplicaSetCreateError"
	reasonSetUpdated       = "ReplicaSetUpdated"
	reasonSetFound         = "FoundNewReplicaSet"
	reasonSetCreated       = "NewReplicaSetCreated"
	reasonSetAvailable     = "NewReplicaSetAvailable"
	reasonDeadlineExceeded = "ProgressDeadlineExceeded"
	reasonPaused           = "DeploymentPaused"
	reasonResumed          = "DeploymentResumed"
	reasonAvailable        = "MinimumReplicasAvailable"
	reasonUnavailable      = "MinimumReplicasUnavailable"
)

// status counts what there is, and keeps the conditions that are not counted.
func (r *rollout) status() appsv1.DeploymentStatus {
	s := *r.Status.DeepCopy()
	s.ObservedGeneration = r.Generation
	s.Replicas, s.UpdatedReplicas, s.ReadyReplicas, s.AvailableReplicas = 0, 0, 0, 0
	for _, rs := range r.all {
		s.Replicas += rs.Status.Replicas
		s.ReadyReplicas += rs.Status.ReadyReplicas
		s.AvailableReplicas += rs.Status.AvailableReplicas
	}
	if r.current != nil {
		s.UpdatedReplicas = r.current.Status.Replicas
	}
	s.UnavailableReplicas = max(0, wanted(r.all...)-s.AvailableReplicas)
	return s
}

func (r *rollout) hasDeadline() bool {
	return r.Spec.ProgressDeadlineSeconds != nil && *r.Spec.ProgressDeadlineSeconds != math.MaxInt32
}

func deploymentCondition(s *appsv1.DeploymentStatus, t appsv1.DeploymentConditionType) *appsv1.DeploymentCondition {
	for i := range s.Conditions {
		if s.Conditions[i].Type == t {
			return &s.Conditions[i]
		}
	}
	return nil
}

// setDeploymentCondition puts c in s. Only another status makes it a transition; one that says nothing new stays as it is.
func setDeploymentCondition(s *appsv1.DeploymentStatus, c appsv1.DeploymentCondition, now time.Time) {
	old := deploymentCondition(s, c.Type)
	if old != nil && old.Status == c.Status && old.Reason == c.Reason {
		return
	}
	c.LastUpdateTime, c.LastTransitionTime = metav1.NewTime(now), metav1.NewTime(now)
	if old == nil {
		s.Conditions = append(s.Conditions, c)
		return
	}
	if old.Status == c.Status {
		c.LastTransitionTime = old.LastTransitionTime
	}
	*old = c
}

func dropDeploymentCondition(s *appsv1.DeploymentStatus, t appsv1.DeploymentConditionType) {
	s.Conditions = slices.DeleteFunc(s.Conditions, func(c appsv1.DeploymentCondition) bool { return c.Type == t })
}

func progressing(status corev1.ConditionStatus, reason, format string, args ...any) appsv1.DeploymentCondition {
	return appsv1.DeploymentCondition{Type: appsv1.DeploymentProgressing, Status: status, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// complete reports whether all that is wanted is there, new and available, and nothing else.
func (r *rollout) complete(s appsv1.DeploymentStatus) bool {
	want := r.want()
	return s.UpdatedReplicas == want && s.Replicas == want && s.AvailableReplicas == want && s.ObservedGeneration >= r.Generation
}

// moved reports whether a status is nearer to the end than the one before.
func moved(before, now appsv1.DeploymentStatus) bool {
	return now.UpdatedReplicas > before.UpdatedReplicas || now.Replicas-now.UpdatedReplicas < before.Replicas-before.UpdatedReplicas ||
		now.ReadyReplicas > before.ReadyReplicas || now.AvailableReplicas > before.AvailableReplicas
}

// counted is status with what follows from the numbers.
func (r *rollout) counted(now time.Time) appsv1.DeploymentStatus {
	s := r.status()
	_, missing := r.bounds()
	c := appsv1.DeploymentCondition{Type: appsv1.DeploymentAvailable, Status: corev1.ConditionTrue, Reason: reasonAvailable, Message: "Enough pods are available."}
	if s.AvailableReplicas < r.want()-missing {
		c.Status, c.Reason, c.Message = corev1.ConditionFalse, reasonUnavailable, "Fewer pods are available than must be."
	}
	setDeploymentCondition(&s, c, now)
	if failed := r.failure(); failed != nil {
		setDeploymentCondition(&s, *failed, now)
	} else {
		dropDeploymentCondition(&s, appsv1.DeploymentReplicaFailure)
	}
	return s
}

// failure is that of the new set to make its pods, or else of another.
func (r *rollout) failure() *appsv1.DeploymentCondition {
	sets := slices.Clone(r.old)
	if r.current != nil {
		sets = slices.Insert(sets, 0, r.current)
	}
	for _, rs := range sets {
		for _, c := range rs.Status.Conditions {
			if c.Type == appsv1.ReplicaSetReplicaFailure && c.Status == corev1.ConditionTrue {
				return &appsv1.DeploymentCondition{Type: appsv1.DeploymentReplicaFailure, Status: c.Status, Reason: c.Reason, Message: c.Message}
			}
		}
	}
	return nil
}

// progress is the status of a rollout under way or at its end, and when to look again whether it has come to a halt.
func (r *rollout) progress(now time.Time) (appsv1.DeploymentStatus, time.Duration) {
	s := r.counted(now)
	if !r.hasDeadline() {
		dropDeploymentCondition(&s, appsv1.DeploymentProgressing)
		return s, 0
	}
	what := fmt.Sprintf("Deployment %q", r.Name)
	if r.current != nil {
		what = fmt.Sprintf("ReplicaSet %q", r.current.Name)
	}
	deadline := time.Duration(*r.Spec.ProgressDeadlineSeconds) * time.Second
	c := deploymentCondition(&s, appsv1.DeploymentProgressing)
	done := c != nil && c.Reason == reasonSetAvailable && s.Replicas == s.UpdatedReplicas
	switch {
	case done:
		return s, 0 // pods that fail later are no rollout
	case r.complete(s):
		setDeploymentCondition(&s, progressing(corev1.ConditionTrue, reasonSetAvailable, "%s has successfully progressed.", what), now)
		return s, 0
	case c == nil:
		reason := reasonSetCreated
		if r.current != nil && r.current.Annotations[revisionHistoryAnnotation] != "" {
			reason = reasonSetFound
		}
		setDeploymentCondition(&s, progressing(corev1.ConditionTrue, reason, "%s is there.", what), now)
	case moved(r.Status, s) || c.Reason == reasonSetAvailable:
		next := progressing(corev1.ConditionTrue, reasonSetUpdated, "%s is progressing.", what)
		next.LastUpdateTime, next.LastTransitionTime = metav1.NewTime(now), metav1.NewTime(now)
		if c.Status == corev1.ConditionTrue {
			next.LastTransitionTime = c.LastTransitionTime
		}
		*c = next
	case c.Status != corev1.ConditionFalse && !now.Before(c.LastUpdateTime.Add(deadline)):
		setDeploymentCondition(&s, progressing(corev1.ConditionFalse, reasonDeadlineExceeded, "%s has timed out progressing.", what), now)
	}
	c = deploymentCondition(&s, appsv1.DeploymentProgressing)
	if c.Status == corev1.ConditionFalse {
		return s, 0
	}
	return s, max(time.Millisecond, c.LastUpdateTime.Add(deadline).Sub(now))
}

// pausedStatus says that the rollout is paused, or goes on, when it did not say so before; so that the time it rests does not count.
func (r *rollout) pausedStatus(now time.Time) (appsv1.DeploymentStatus, bool) {
	if !r.hasDeadline() {
		return r.Status, false
	}
	c := deploymentCondition(&r.Status, appsv1.DeploymentProgressing)
	if c != nil && c.Reason == reasonDeadlineExceeded {
		return r.Status, false
	}
	paused := c != nil && c.Reason == reasonPaused
	if paused == r.Spec.Paused {
		return r.Status, false
	}
	s := *r.Status.DeepCopy()
	if r.Spec.Paused {
		setDeploymentCondition(&s, progressing(corev1.ConditionUnknown, reasonPaused, "The rollout is paused."), now)
	} else {
		setDeploymentCondition(&s, progressing(corev1.ConditionUnknown, reasonResumed, "The rollout goes on."), now)
	}
	return s, true
}

// refused is the condition of a Deployment whose new ReplicaSet could not be made.
func refused(err error) (appsv1.DeploymentCondition, bool) {
	if e, ok := errors.AsType[errRefused](err); ok {
		return progressing(corev1.ConditionFalse, reasonSetCreateError, "%v", e.error), true
	}
	return appsv1.DeploymentCondition{}, false
}
