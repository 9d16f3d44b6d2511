package registry

import (
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"shoal/internal/api"
	"shoal/internal/client"
)

// scaleApplied turns an applied Scale into what it says of the object that it is a part of: nothing but the number of replicas, when it
// names one.
func scaleApplied(k *api.Kind, key client.Key, wanted *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	if !k.HasSubresource("scale") {
		return nil, notFound(k, key.Name)
	}
	if err := checkApplied(scaleKind(), key, wanted); err != nil {
		return nil, err
	}
	s := &autoscalingv1.Scale{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(wanted.Object, s, true); err != nil {
		return nil, badRequest("the Scale cannot be read: %v", err)
	}
	if errs := api.ValidateScale(s); len(errs) > 0 {
		return nil, invalid(scaleKind(), key.Name, errs...)
	}
	out := &unstructured.Unstructured{Object: map[string]any{}}
	out.SetGroupVersionKind(k.GroupVersionKind)
	out.SetName(key.Name)
	out.SetNamespace(key.Namespace)
	out.SetUID(s.UID)
	out.SetResourceVersion(s.ResourceVersion)
	_, said, err := unstructured.NestedFieldNoCopy(wanted.Object, "spec", "replicas")
	switch {
	case err != nil || !said:
	case k.Scale != nil:
		k.Scale.Set(out, s.Spec.Replicas)
	default: // all built-in kinds have it there
		err = unstructured.SetNestedField(out.Object, int64(s.Spec.Replicas), "spec", "replicas")
	}
	return out, err
}
