package registry

import (
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"shoal/internal/api"
)

// This file is what kinds do differently from one another when they are written.

// prepareUpdate puts back what an update of subresource sub may not change, so that each field has one way in.
func prepareUpdate(k *api.Kind, updated, old api.Object, sub string) api.Object {
	switch sub {
	case "status", "finalize", "approval":
		return limitTo(k, updated, old, sub)
	case "binding":
		return updated
	}
	if part := k.Part(sub); part != nil {
		out := old.DeepCopyObject().(api.Object)
		out.SetResourceVersion(updated.GetResourceVersion())
		out.SetManagedFields(updated.GetManagedFields())
		part.Copy(out, updated)
		return out
	}
	if k.PrepareUpdate != nil {
		k.PrepareUpdate(updated, old)
	}
	if node, ok := updated.(*corev1.Node); ok && node.Spec.PodCIDR == "" {
		was := old.(*corev1.Node)
		node.Spec.PodCIDR, node.Spec.PodCIDRs = was.Spec.PodCIDR, was.Spec.PodCIDRs
	}
	return updated
}

// limitTo returns old with only what a subresource may change taken from updated.
func limitTo(k *api.Kind, updated, old api.Object, sub string) api.Object {
	out := old.DeepCopyObject().(api.Object)
	out.SetResourceVersion(updated.GetResourceVersion())
	out.SetManagedFields(updated.GetManagedFields())
	if sub == "finalize" {
		out.(*corev1.Namespace).Spec.Finalizers = updated.(*corev1.Namespace).Spec.Finalizers
		return out
	}
	out.SetUID(updated.GetUID())
	out.SetLabels(updated.GetLabels())
	out.SetAnnotations(updated.GetAnnotations())
	out.SetFinalizers(updated.GetFinalizers())
	switch {
	case sub == "approval" && k.CopyApproval != nil:
		k.CopyApproval(out, updated)
	case sub == "status" && k.CopyStatus != nil:
		k.CopyStatus(out, updated)
	}
	if k.PrepareStatus != nil {
		k.PrepareStatus(out, old)
	}
	return out
}

// raisesGeneration reports whether an update of an object itself changes what its controllers act on.
func raisesGeneration(k *api.Kind, updated, old api.Object) bool {
	if !k.Generation {
		return false
	}
	annotated := k.GenerationOfAnnotations && !equality.Semantic.DeepEqual(updated.GetAnnotations(), old.GetAnnotations())
	return annotated || !sameSpec(k, updated, old)
}

// sameSpec reports whether two objects differ in nothing but metadata and status.
func sameSpec(k *api.Kind, a, b api.Object) bool {
	a, b = a.DeepCopyObject().(api.Object), b.DeepCopyObject().(api.Object)
	for _, o := range []api.Object{a, b} {
		stripMeta(o)
		if k.CopyStatus != nil {
			k.CopyStatus(o, k.New())
		}
	}
	return equality.Semantic.DeepEqual(a, b)
}

func stripMeta(o api.Object) {
	if u, ok := o.(*unstructured.Unstructured); ok {
		delete(u.Object, "metadata")
	}
	if m, ok := o.(metav1.ObjectMetaAccessor); ok {
		if meta, ok := m.GetObjectMeta().(*metav1.ObjectMeta); ok {
			*meta = metav1.ObjectMeta{}
		}
	}
}

// graceOf returns how long an object may take to end: zero for all but pods that run.
func graceOf(obj api.Object, asked *int64) int64 {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return 0
	}
	period := int64(corev1.DefaultTerminationGracePeriodSeconds)
	if pod.Spec.TerminationGracePeriodSeconds != nil {
		period = *pod.Spec.TerminationGracePeriodSeconds
	}
	if asked != nil {
		period = *asked
	}
	if pod.Spec.NodeName == "" || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return 0
	}
	if period < 0 { // a mistake of earlier clients: as short as possible
		return 1
	}
	return period
}

// ScaleOf returns an object's scale.
func ScaleOf(k *api.Kind, obj api.Object) (*autoscalingv1.Scale, error) {
	if s, ok := api.ScaleOf(k, obj); ok {
		return s, nil
	}
	return nil, notFound(k, obj.GetName())
}

// applyScale sets in obj what a scale asks for.
func applyScale(k *api.Kind, obj api.Object, s *autoscalingv1.Scale) error {
	if errs := api.ValidateScale(s); len(errs) > 0 {
		return invalid(scaleKind(), obj.GetName(), errs...)
	}
	if !api.ApplyScale(k, obj, s) {
		return notFound(k, obj.GetName())
	}
	return nil
}

func scaleKind() *api.Kind {
	return &api.Kind{GroupVersionKind: autoscalingv1.SchemeGroupVersion.WithKind("Scale")}
}

// deletionDue reports whether nothing holds an object back that is marked for deletion.
func deletionDue(obj api.Object) bool {
	if obj.GetDeletionTimestamp() == nil || len(obj.GetFinalizers()) > 0 {
		return false
	}
	if ns, ok := obj.(*corev1.Namespace); ok {
		return len(ns.Spec.Finalizers) == 0
	}
	if g := obj.GetDeletionGracePeriodSeconds(); g != nil && *g > 0 {
		return false
	}
	return true
}
