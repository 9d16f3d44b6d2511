// Package custom turns a CustomResourceDefinition into rows of the kinds table: one for each version that it serves. Its objects are
// *unstructured.Unstructured; what a Go type does for other kinds (drop unknown fields, fill in, check) their schema does here.
// It does no I/O and keeps nothing.
package custom

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"

	"shoal/internal/api"
)

// Kinds returns the rows of a definition that passed its validation, the preferred version first. Objects are stored in
// whatever version they were written in: versions differ in nothing but their name and what their schemas keep.
func Kinds(d *apiextensionsv1.CustomResourceDefinition) ([]*api.Kind, error) {
	var out []*api.Kind
	for i := range d.Spec.Versions {
		// What is left of a deleted definition's objects must be found, served or not.
		if v := &d.Spec.Versions[i]; v.Served || v.Storage && d.DeletionTimestamp != nil {
			k, err := kindOf(d, v)
			if err != nil {
				return nil, fmt.Errorf("version %s of %s: %w", v.Name, d.Name, err)
			}
			out = append(out, k)
		}
	}
	slices.SortStableFunc(out, func(a, b *api.Kind) int { return version.CompareKubeAwareVersionStrings(b.Version, a.Version) })
	return out, nil
}

// definition is one version of a definition, made ready to judge objects by.
type definition struct {
	gvk       schema.GroupVersionKind
	schema    *structuralschema.Structural
	status    bool // it is a subresource
	validator *validator
}

func kindOf(d *apiextensionsv1.CustomResourceDefinition, v *apiextensionsv1.CustomResourceDefinitionVersion) (*api.Kind, error) {
	if v.Schema == nil || v.Schema.OpenAPIV3Schema == nil {
		return nil, fmt.Errorf("it has no schema")
	}
	raw, err := json.Marshal(v.Schema.OpenAPIV3Schema)
	if err != nil {
		return nil, err
	}
	s, err := api.StructuralSchema(v.Schema.OpenAPIV3Schema)
	if err != nil {
		return nil, err
	}
	names := &d.Status.AcceptedNames
	if names.Kind == "" { // not decided yet
		names = &d.Spec.Names
	}
	def := &definition{gvk: schema.GroupVersionKind{Group: d.Spec.Group, Version: v.Name, Kind: names.Kind}, schema: s, validator: newValidator(s)}
	k := &api.Kind{
		GroupVersionKind: def.gvk,
		Resource:         names.Plural,
		Singular:         names.Singular,
		ShortNames:       names.ShortNames,
		Categories:       names.Categories,
		Namespaced:       d.Spec.Scope == apiextensionsv1.NamespaceScoped,
		Custom:           &api.Custom{Schema: raw, Types: def.types()},
		Terminating:      d.DeletionTimestamp != nil,
		ValidateName:     validation.NameIsDNSSubdomain,
		NeedsVersion:     true,
		Generation:       true,
		New:              func() api.Object { return def.object() },
		NewList:          func() runtime.Object { return &unstructured.UnstructuredList{} },
		Prune:            def.prune,
		Default:          def.fill,
		Validate:         def.validate,
		ValidateUpdate:   def.validateUpdate,
	}
	if def.validator.rules != nil {
		k.Rules = def.rules
	}
	if v.Deprecated {
		k.Warnings = def.deprecated(v.DeprecationWarning)
	}
	def.subresources(k, v.Subresources)
	k.Columns, k.Cells = columns(v.AdditionalPrinterColumns)
	k.Fields = selectable(v.SelectableFields)
	return k, nil
}

func (d *definition) object() *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{}}
	u.SetGroupVersionKind(d.gvk)
	return u
}

func (d *definition) deprecated(text *string) func(api.Object) []string {
	w := fmt.Sprintf("%s %s is deprecated", d.gvk.GroupVersion(), d.gvk.Kind)
	if text != nil {
		w = *text
	}
	return func(api.Object) []string { return []string{w} }
}

// subresources adds what a version has below its objects.
func (d *definition) subresources(k *api.Kind, s *apiextensionsv1.CustomResourceSubresources) {
	if s == nil {
		return
	}
	verbs := []string{"get", "patch", "update"}
	if s.Scale != nil {
		k.Subresources = append(k.Subresources, api.Subresource{Name: "scale", Group: "autoscaling", Kind: "Scale", Verbs: verbs})
		k.Scale = scaleOf(s.Scale)
	}
	if s.Status == nil {
		return
	}
	d.status = true
	k.Subresources = append(k.Subresources, api.Subresource{Name: "status", Kind: k.Kind, Verbs: verbs})
	k.PrepareCreate = func(o api.Object) { delete(content(o), "status") }
	k.PrepareUpdate = func(updated, old api.Object) { copyStatus(updated, old) }
	k.CopyStatus = copyStatus
	k.ValidateStatus = d.validateUpdate
}

func copyStatus(to, from api.Object) {
	if s, ok := content(from)["status"]; ok {
		content(to)["status"] = runtime.DeepCopyJSONValue(s)
	} else {
		delete(content(to), "status")
	}
}

// content returns the fields of an object, which is one that New made.
func content(o api.Object) map[string]any { return o.(*unstructured.Unstructured).Object }

// at returns the value at ".a.b.c", or nil.
func at(o map[string]any, path string) any {
	names, ok := api.SimplePath(path)
	if !ok {
		return nil
	}
	v, _, _ := unstructured.NestedFieldNoCopy(o, names...)
	return v
}

// selectable returns the fields that selectors may name, if there are any.
func selectable(fs []apiextensionsv1.SelectableField) func(api.Object) fields.Set {
	if len(fs) == 0 {
		return nil
	}
	return func(o api.Object) fields.Set {
		set := fields.Set{}
		for _, f := range fs {
			text := ""
			if v := at(content(o), f.JSONPath); v != nil {
				text = fmt.Sprint(v)
			}
			set[strings.TrimPrefix(f.JSONPath, ".")] = text
		}
		return set
	}
}
