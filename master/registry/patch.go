package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/mergepatch"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"

	"shoal/internal/api"
	"shoal/internal/client"
)

// doesNotApply is Kubernetes' answer to a patch that cannot be done to the object, with why.
func doesNotApply(err error) error {
	st := apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "", schema.GroupResource{}, "", err.Error(), 0, false)
	st.ErrStatus.Message += ": " + err.Error()
	return st
}

// maxPatchOps bounds a JSON patch, whose operations can each copy the whole object.
const maxPatchOps = 10000

// Patched is what PatchEntry did.
type Patched struct {
	Entry   *Entry
	Scale   *autoscalingv1.Scale // instead of the entry's object for subresource scale
	Created bool                 // by a server-side apply
	// Warnings are the fields that the patch has but the kind does not, as o.FieldValidation asks.
	Warnings []string
}

// Patch implements client.Interface.
func (r *Registry) Patch(ctx context.Context, k *api.Kind, key client.Key, p client.Patch, o client.PatchOptions) (runtime.Object, error) {
	res, err := r.PatchEntry(ctx, k, key, p, o)
	switch {
	case err != nil:
		return nil, err
	case res.Scale != nil:
		return res.Scale, nil
	}
	return res.Entry.Object, nil
}

// PatchEntry is Patch for those who want the encoded form and the warnings.
func (r *Registry) PatchEntry(ctx context.Context, k *api.Kind, key client.Key, p client.Patch, o client.PatchOptions) (*Patched, error) {
	if _, err := r.feed(k); err != nil {
		return nil, err
	}
	if p.Type == types.ApplyPatchType {
		return r.applyPatch(ctx, k, key, p, o)
	}
	if o.Force {
		return nil, invalidPatchOption("force", "may not be specified for non-apply patch")
	}
	if k.Custom != nil && p.Type == types.StrategicMergePatchType {
		return nil, unsupportedPatch(k, string(p.Type)) // its lists say nothing of how they merge
	}
	out := &Patched{}
	sub := o.Subresource
	if sub == "scale" {
		sub = ""
	}
	u := updating{kind: k, key: key, sub: sub, dryRun: o.DryRun, manager: o.FieldManager}
	e, err := r.update(ctx, u, func(old *Entry) (api.Object, error) {
		if o.Subresource == "scale" {
			return patchScale(k, old, p)
		}
		was, err := old.JSON()
		if err != nil {
			return nil, internal(err)
		}
		now, err := patchJSON(was, p, k.New())
		if err != nil {
			return nil, err
		}
		obj, warnings, err := patchedObject(k, now, p.Type, o.FieldValidation)
		out.Warnings = warnings
		return obj, err
	})
	if err != nil {
		return nil, err
	}
	out.Entry = e
	if o.Subresource == "scale" {
		out.Scale, err = ScaleOf(k, e.Object)
	}
	return out, err
}

func patchScale(k *api.Kind, old *Entry, p client.Patch) (api.Object, error) {
	s, err := ScaleOf(k, old.Object)
	if err != nil {
		return nil, err
	}
	was, err := json.Marshal(s)
	if err != nil {
		return nil, internal(err)
	}
	now, err := patchJSON(was, p, s)
	if err != nil {
		return nil, err
	}
	patched := &autoscalingv1.Scale{}
	if _, err := decodePatched(now, patched, "", false); err != nil {
		return nil, err
	}
	obj := clone(old)
	return obj, applyScale(k, obj, patched)
}

// patchJSON applies a patch to the JSON of an object; like is an object of its type.
func patchJSON(was []byte, p client.Patch, like runtime.Object) ([]byte, error) {
	switch p.Type {
	case types.JSONPatchType:
		return jsonPatch(was, p.Data)
	case types.MergePatchType:
		var v map[string]any
		if err := json.Unmarshal(p.Data, &v); err != nil {
			return nil, badRequest("error decoding patch: %v", err)
		}
		now, err := jsonpatch.MergePatch(was, p.Data)
		if err != nil {
			return nil, badRequest("%v", err)
		}
		return now, nil
	case types.StrategicMergePatchType:
		return strategicPatch(was, p.Data, like)
	}
	return nil, unsupportedPatch(nil, string(p.Type))
}

func jsonPatch(was, patch []byte) ([]byte, error) {
	ops, err := jsonpatch.DecodePatch(patch)
	if err != nil {
		return nil, badRequest("error decoding patch: %v", err)
	}
	if len(ops) > maxPatchOps {
		return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("the patch has %d operations; the most are %d", len(ops), maxPatchOps))
	}
	now, err := ops.Apply(was)
	if err != nil {
		return nil, doesNotApply(err)
	}
	return now, nil
}

func strategicPatch(was, patch []byte, like runtime.Object) ([]byte, error) {
	original, change := map[string]any{}, map[string]any{}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(was, &original); err != nil {
		return nil, internal(err)
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(patch, &change); err != nil {
		return nil, badRequest("error decoding patch: %v", err)
	}
	now, err := strategicpatch.StrategicMergeMapPatch(original, change, like)
	switch {
	case errors.Is(err, mergepatch.ErrBadJSONDoc), errors.Is(err, mergepatch.ErrBadPatchFormatForPrimitiveList),
		errors.Is(err, mergepatch.ErrBadPatchFormatForRetainKeys), errors.Is(err, mergepatch.ErrBadPatchFormatForSetElementOrderList),
		errors.Is(err, mergepatch.ErrUnsupportedStrategicMergePatchFormat):
		return nil, badRequest("%v", err)
	case errors.Is(err, mergepatch.ErrNoListOfLists):
		return nil, doesNotApply(err)
	case err != nil: // a patch that does not fit the type
		return nil, invalidPatch(string(patch), err)
	}
	b, err := json.Marshal(now)
	if err != nil {
		return nil, internal(err)
	}
	return b, nil
}

// patchedObject reads the JSON of a patched object of a kind.
func patchedObject(k *api.Kind, b []byte, how types.PatchType, validation string) (api.Object, []string, error) {
	if k.Custom == nil {
		obj := k.New()
		warnings, err := decodePatched(b, obj, validation, how == types.StrategicMergePatchType)
		return obj, warnings, err
	}
	obj, odd, err := k.ReadCustom(b)
	if err == nil && obj.GetObjectKind().GroupVersionKind() != k.GroupVersionKind {
		err = fmt.Errorf("apiVersion and kind must stay %s, %s", k.GroupVersion(), k.Kind)
	}
	if err != nil {
		return nil, nil, invalidPatch(string(b), err)
	}
	warnings, err := judge(b, odd, validation)
	return obj, warnings, err
}

// decodePatched reads the patched JSON into obj. Fields that the type does not have are dropped, noted or refused, as
// asked.
func decodePatched(b []byte, obj runtime.Object, validation string, quiet bool) ([]string, error) {
	strict, err := kjson.UnmarshalStrict(b, obj)
	if err != nil {
		return nil, invalidPatch(string(b), err)
	}
	if quiet && validation == "" {
		return nil, nil
	}
	return judge(b, strict, validation)
}

// judge makes warnings or an error of what was odd about a patched object.
func judge(b []byte, strict []error, validation string) ([]string, error) {
	if len(strict) == 0 || validation == metav1.FieldValidationIgnore {
		return nil, nil
	}
	if validation == metav1.FieldValidationStrict {
		return nil, invalidPatch(string(b), runtime.NewStrictDecodingError(strict))
	}
	out := make([]string, 0, len(strict))
	for _, e := range strict {
		out = append(out, e.Error())
	}
	return out, nil
}

func invalidPatch(value string, err error) error {
	return apierrors.NewInvalid(schema.GroupKind{}, "", field.ErrorList{field.Invalid(field.NewPath("patch"), value, err.Error())})
}

func invalidPatchOption(name, why string) error {
	gk := schema.GroupKind{Group: metav1.GroupName, Kind: "PatchOptions"}
	return apierrors.NewInvalid(gk, "", field.ErrorList{field.Forbidden(field.NewPath(name), why)})
}
