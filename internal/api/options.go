package api

import (
	"fmt"
	"net/url"
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"
)

// addPodOptions lets the query strings of a pod's log, exec, attach and portforward be decoded: the libraries only
// know how to write them.
func addPodOptions(s *runtime.Scheme) error {
	for _, o := range []any{
		(*corev1.PodLogOptions)(nil), (*corev1.PodExecOptions)(nil), (*corev1.PodAttachOptions)(nil), (*corev1.PodPortForwardOptions)(nil),
	} {
		err := s.AddConversionFunc((*url.Values)(nil), o, func(from, to any, _ conversion.Scope) error {
			return fromQuery(*from.(*url.Values), to)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// fromQuery sets the fields of a struct by their JSON names. Parameters without a field are ignored.
func fromQuery(query url.Values, to any) error {
	v := reflect.ValueOf(to).Elem()
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		values, ok := query[name]
		if !ok || name == "" {
			continue
		}
		if err := setFromQuery(v.Field(i), values); err != nil {
			return fmt.Errorf("parameter %s: %w", name, err)
		}
	}
	return nil
}

func setFromQuery(v reflect.Value, values []string) error {
	switch field := v.Addr().Interface().(type) {
	case *string:
		return runtime.Convert_Slice_string_To_string(&values, field, nil)
	case **string:
		*field = new(string)
		return runtime.Convert_Slice_string_To_string(&values, *field, nil)
	case *bool:
		return runtime.Convert_Slice_string_To_bool(&values, field, nil)
	case **int64:
		return runtime.Convert_Slice_string_To_Pointer_int64(&values, field, nil)
	case *[]string:
		*field = values
		return nil
	case *[]int32:
		return metav1.Convert_Slice_string_To_Slice_int32(&values, field, nil)
	case **metav1.Time:
		return metav1.Convert_Slice_string_To_Pointer_v1_Time(&values, field, nil)
	}
	return fmt.Errorf("a %s cannot be given in a query", v.Type())
}
