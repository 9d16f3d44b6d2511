package api

import (
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// scaled is what the scale of an object speaks of, whatever the object's kind.
type scaled struct {
	replicas **int32
	status   int32
	selector string
}

// scaledPart finds it in o; false when o's kind does not count replicas.
func scaledPart(o Object) (scaled, bool) {
	switch o := o.(type) {
	case *corev1.ReplicationController:
		return scaled{&o.Spec.Replicas, o.Status.Replicas, labels.Set(o.Spec.Selector).AsSelector().String()}, true
	case *appsv1.Deployment:
		return scaled{&o.Spec.Replicas, o.Status.Replicas, selectorString(o.Spec.Selector)}, true
	case *appsv1.ReplicaSet:
		return scaled{&o.Spec.Replicas, o.Status.Replicas, selectorString(o.Spec.Selector)}, true
	case *appsv1.StatefulSet:
		return scaled{&o.Spec.Replicas, o.Status.Replicas, selectorString(o.Spec.Selector)}, true
	}
	return scaled{}, false
}

// selectorString is empty for a selector that is none, which validation does not let in.
func selectorString(s *metav1.LabelSelector) string {
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return ""
	}
	return selector.String()
}

// ScaleOf returns the scale subresource of an object, or false when its kind has none.
func ScaleOf(o Object) (*autoscalingv1.Scale, bool) {
	part, ok := scaledPart(o)
	if !ok {
		return nil, false
	}
	s := &autoscalingv1.Scale{
		TypeMeta: metav1.TypeMeta{APIVersion: autoscalingv1.SchemeGroupVersion.String(), Kind: "Scale"},
		ObjectMeta: metav1.ObjectMeta{
			Name: o.GetName(), Namespace: o.GetNamespace(), UID: o.GetUID(), ResourceVersion: o.GetResourceVersion(), CreationTimestamp: o.GetCreationTimestamp(),
		},
		Status: autoscalingv1.ScaleStatus{Replicas: part.status, Selector: part.selector},
	}
	s.Spec.Replicas = orZero(*part.replicas)
	return s, true
}

// ApplyScale sets in o what s asks for, and the resourceVersion and UID it is conditional on when s has them. It reports
// whether o's kind has a scale.
func ApplyScale(o Object, s *autoscalingv1.Scale) bool {
	part, ok := scaledPart(o)
	if !ok {
		return false
	}
	n := s.Spec.Replicas
	*part.replicas = &n
	if s.ResourceVersion != "" {
		o.SetResourceVersion(s.ResourceVersion)
	}
	if s.UID != "" {
		o.SetUID(s.UID)
	}
	return true
}

// ValidateScale returns every problem of a scale, its metadata excluded.
func ValidateScale(s *autoscalingv1.Scale) field.ErrorList {
	return notNegative(int64(s.Spec.Replicas), field.NewPath("spec", "replicas"))
}
