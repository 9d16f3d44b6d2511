package api

import (
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ScaleOf returns the scale subresource of a replication controller.
func ScaleOf(rc *corev1.ReplicationController) *autoscalingv1.Scale {
	s := &autoscalingv1.Scale{
		TypeMeta: metav1.TypeMeta{APIVersion: autoscalingv1.SchemeGroupVersion.String(), Kind: "Scale"},
		ObjectMeta: metav1.ObjectMeta{
			Name: rc.Name, Namespace: rc.Namespace, UID: rc.UID, ResourceVersion: rc.ResourceVersion, CreationTimestamp: rc.CreationTimestamp,
		},
		Status: autoscalingv1.ScaleStatus{Replicas: rc.Status.Replicas, Selector: labels.Set(rc.Spec.Selector).AsSelector().String()},
	}
	if rc.Spec.Replicas != nil {
		s.Spec.Replicas = *rc.Spec.Replicas
	}
	return s
}

// ApplyScale sets in rc what s asks for, and the resourceVersion and UID it is conditional on when s has them.
func ApplyScale(rc *corev1.ReplicationController, s *autoscalingv1.Scale) {
	n := s.Spec.Replicas
	rc.Spec.Replicas = &n
	if s.ResourceVersion != "" {
		rc.ResourceVersion = s.ResourceVersion
	}
	if s.UID != "" {
		rc.UID = s.UID
	}
}

// ValidateScale returns every problem of a scale, its metadata excluded.
func ValidateScale(s *autoscalingv1.Scale) field.ErrorList {
	return notNegative(int64(s.Spec.Replicas), field.NewPath("spec", "replicas"))
}
