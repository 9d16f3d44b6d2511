package custom

import (
	"fmt"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"shoal/internal/api"
)

// scaleOf returns how the scale of a version's objects is read and set.
func scaleOf(paths *apiextensionsv1.CustomResourceSubresourceScale) *api.ScalePart {
	return &api.ScalePart{
		Get: func(o api.Object) autoscalingv1.Scale {
			s := autoscalingv1.Scale{}
			s.Spec.Replicas = number(at(content(o), paths.SpecReplicasPath))
			s.Status.Replicas = number(at(content(o), paths.StatusReplicasPath))
			if p := paths.LabelSelectorPath; p != nil && *p != "" {
				if v := at(content(o), *p); v != nil {
					s.Status.Selector = fmt.Sprint(v)
				}
			}
			return s
		},
		Set: func(o api.Object, replicas int32) {
			if names, ok := api.SimplePath(paths.SpecReplicasPath); ok {
				// It fails where the path leads through what is no object, which the schema's check then says.
				_ = unstructured.SetNestedField(content(o), int64(replicas), names...)
			}
		},
	}
}

func number(v any) int32 {
	switch v := v.(type) {
	case int64:
		return int32(v)
	case float64:
		return int32(v)
	}
	return 0
}
