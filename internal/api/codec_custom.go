package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// DecodeCustom is Decode for a kind without a Go type.
func (c *Codecs) DecodeCustom(data []byte, mediaType, fieldValidation string, k *Kind) (Object, []string, error) {
	if t, _, err := mime.ParseMediaType(mediaType); err == nil {
		mediaType = t
	}
	text := data
	switch mediaType {
	case "", MediaJSON:
	case MediaYAML:
		if err := CheckYAML(data); err != nil {
			return nil, nil, err
		}
		j, err := yaml.YAMLToJSON(data)
		if err != nil {
			return nil, nil, decodeError(err, data, k.GroupVersionKind, nil)
		}
		text = j
	default:
		st := unsupportedMediaType(mediaType)
		st.Message = fmt.Sprintf("the body of the request was in an unknown format - accepted media types include: %s, %s", MediaJSON, MediaYAML) + suffixGot(mediaType)
		return nil, nil, &apierrors.StatusError{ErrStatus: st}
	}
	obj, odd, err := k.ReadCustom(text)
	if err != nil {
		return nil, nil, decodeError(err, data, k.GroupVersionKind, nil)
	}
	gvk := obj.GetObjectKind().GroupVersionKind()
	switch {
	case gvk.Kind == "":
		return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("Object 'Kind' is missing in '%s'", excerpt(data)))
	case gvk.Version == "":
		return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("Object 'apiVersion' is missing in '%s'", excerpt(data)))
	case gvk.GroupVersion() != k.GroupVersion():
		return nil, nil, mismatch(k.GroupVersionKind, gvk)
	case gvk.Kind != k.Kind:
		return nil, nil, apierrors.NewInvalid(gvk.GroupKind(), obj.GetName(), field.ErrorList{
			field.Invalid(field.NewPath("kind"), gvk.Kind, "must be "+k.Kind),
		})
	}
	switch {
	case len(odd) == 0 || fieldValidation == metav1.FieldValidationIgnore:
		return obj, nil, nil
	case fieldValidation == metav1.FieldValidationStrict:
		return nil, nil, decodeError(runtime.NewStrictDecodingError(odd), data, k.GroupVersionKind, &gvk)
	}
	return obj, messages(odd), nil
}

func messages(errs []error) []string {
	out := make([]string, 0, len(errs))
	for _, e := range errs {
		out = append(out, e.Error())
	}
	return out
}

// ReadCustom reads the JSON of an object of a kind without a Go type. What the kind does not have is dropped and returned, like
// what is there twice. Its apiVersion and kind may be missing or others.
func (k *Kind) ReadCustom(data []byte) (Object, []error, error) {
	var fields map[string]any
	odd, err := kjson.UnmarshalStrict(data, &fields)
	if err != nil {
		return nil, nil, err
	}
	if fields == nil {
		return nil, nil, errors.New("it must be an object")
	}
	for _, name := range []string{"apiVersion", "kind"} {
		if v, there := fields[name]; there {
			if _, ok := v.(string); !ok {
				return nil, nil, fmt.Errorf("%s must be a string", name)
			}
		}
	}
	if _, err := schema.ParseGroupVersion((&unstructured.Unstructured{Object: fields}).GetAPIVersion()); err != nil {
		return nil, nil, err
	}
	unknown, err := normaliseMeta(fields)
	if err != nil {
		return nil, nil, err
	}
	odd = append(odd, unknown...)
	obj := &unstructured.Unstructured{Object: fields}
	for _, path := range k.Prune(obj) {
		odd = append(odd, fmt.Errorf("unknown field %q", path))
	}
	return obj, odd, nil
}

// normaliseMeta makes sure that the metadata of an object is what its Go type says.
func normaliseMeta(o map[string]any) ([]error, error) {
	given, there := o["metadata"]
	if !there || given == nil {
		delete(o, "metadata")
		return nil, nil
	}
	if _, ok := given.(map[string]any); !ok {
		return nil, fmt.Errorf("metadata must be an object")
	}
	m, unknown, err := readMeta(given)
	if err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(m)
	if err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	if fields["creationTimestamp"] == nil {
		delete(fields, "creationTimestamp")
	}
	o["metadata"] = fields
	return unknown, nil
}

func readMeta(v any) (*metav1.ObjectMeta, []error, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, nil, err
	}
	m := &metav1.ObjectMeta{}
	unknown, err := kjson.UnmarshalStrict(b, m)
	for i, e := range unknown {
		unknown[i] = fmt.Errorf("metadata: %w", e)
	}
	return m, unknown, err
}

// MetaOf returns the metadata of an object, whatever its Go type. The caller must not change what it points to.
func MetaOf(o Object) metav1.ObjectMeta {
	if a, ok := o.(metav1.ObjectMetaAccessor); ok {
		if m, ok := a.GetObjectMeta().(*metav1.ObjectMeta); ok {
			return *m
		}
	}
	if u, ok := o.(*unstructured.Unstructured); ok {
		if m, _, err := readMeta(u.Object["metadata"]); err == nil {
			return *m
		}
	}
	return metav1.ObjectMeta{}
}
