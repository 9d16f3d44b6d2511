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

// ScalePart reads and sets the scale of objects of one kind.
type ScalePart struct {
	// Get returns the scale's spec and status.
	Get func(Object) autoscalingv1.Scale
	Set func(o Object, replicas int32)
}

// ScaleOf returns the scale subresource of an object of kind k, or false when that has none.
func ScaleOf(k *Kind, o Object) (*autoscalingv1.Scale, bool) {
	s := autoscalingv1.Scale{}
	if k.Scale != nil {
		s = k.Scale.Get(o)
	} else {
		part, ok := scaledPart(o)
		if !ok {
			return nil, false
		}
		s.Spec.Replicas = orZero(*part.replicas)
		s.Status = autoscalingv1.ScaleStatus{Replicas: part.status, Selector: part.selector}
	}
	s.TypeMeta = metav1.TypeMeta{APIVersion: autoscalingv1.SchemeGroupVersion.String(), Kind: "Scale"}
	s.ObjectMeta = metav1.ObjectMeta{
		Name: o.GetName(), Namespace: o.GetNamespace(), UID: o.GetUID(), ResourceVersion: o.GetResourceVersion(), CreationTimestamp: o.GetCreationTimestamp(),
	}
	return &s, true
}

// ApplyScale sets in o, an object of kind k, what s asks for, and the resourceVersion and UID it is conditional on when s has them. It reports
// whether o's kind has a scale.
func ApplyScale(k *Kind, o Object, s *autoscalingv1.Scale) bool {
	if k.Scale != nil {
		k.Scale.Set(o, s.Spec.Replicas)
	} else {
		part, ok := scaledPart(o)
		if !ok {
			return false
		}
		n := s.Spec.Replicas
		*part.replicas = &n
	}
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
