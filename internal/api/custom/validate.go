package custom

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apimachinery/pkg/util/validation/field"
	limits "k8s.io/apiserver/pkg/apis/cel"
	openapierrors "k8s.io/kube-openapi/pkg/validation/errors"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"k8s.io/kube-openapi/pkg/validation/strfmt"
	"k8s.io/kube-openapi/pkg/validation/validate"

	"shoal/internal/api"
)

// validator checks values by a schema.
type validator struct {
	schema *structuralschema.Structural
	values *validate.SchemaValidator
	rules  *cel.Validator // nil: there are none
}

func newValidator(s *structuralschema.Structural) *validator {
	return &validator{s, validate.NewSchemaValidator(withoutUnknownFormats(s.ToKubeOpenAPI()), nil, "", strfmt.Default), cel.NewValidator(s, true, limits.PerCallLimit)}
}

// withoutUnknownFormats drops the formats that nobody checks. A format that says nothing of strings must not be taken for one that does.
func withoutUnknownFormats(s *spec.Schema) *spec.Schema {
	if s.Format != "" && !strfmt.Default.ContainsName(s.Format) {
		s.Format = ""
	}
	for name, p := range s.Properties {
		s.Properties[name] = *withoutUnknownFormats(&p)
	}
	for _, all := range [][]spec.Schema{s.AllOf, s.AnyOf, s.OneOf} {
		for i := range all {
			withoutUnknownFormats(&all[i])
		}
	}
	if s.Items != nil && s.Items.Schema != nil {
		withoutUnknownFormats(s.Items.Schema)
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
		withoutUnknownFormats(s.AdditionalProperties.Schema)
	}
	if s.Not != nil {
		withoutUnknownFormats(s.Not)
	}
	return s
}

func (v *validator) check(o map[string]any) field.ErrorList {
	var errs field.ErrorList
	for _, err := range v.values.Validate(o).Errors {
		errs = append(errs, fieldError(err))
	}
	return append(errs, listtype.ValidateListSetsAndMaps(nil, v.schema, o)...)
}

// obey checks a value, and what it was before (nil: nothing), by the rules in CEL. Only what the schema lets through may be shown to them.
func (v *validator) obey(ctx context.Context, o, old map[string]any) field.ErrorList {
	var before any // not a nil map: that would be something
	if old != nil {
		before = old
	}
	errs, _ := v.rules.Validate(ctx, nil, v.schema, o, before, limits.RuntimeCELCostBudget)
	return errs
}

func (d *definition) validate(o api.Object) field.ErrorList { return d.validator.check(content(o)) }

// validateUpdate forgives what was wrong before: a schema may have become stricter than the objects it found.
func (d *definition) validateUpdate(updated, old api.Object) field.ErrorList {
	errs := d.validator.check(content(updated))
	if len(errs) == 0 {
		return nil
	}
	return forgive(errs, d.validator.check(content(old)))
}

// rules forgives as validateUpdate does.
func (d *definition) rules(ctx context.Context, o, old api.Object) field.ErrorList {
	if old == nil {
		return d.validator.obey(ctx, content(o), nil)
	}
	errs := d.validator.obey(ctx, content(o), content(old))
	if len(errs) == 0 {
		return nil
	}
	return forgive(errs, d.validator.obey(ctx, content(old), nil))
}

// forgive returns the errors that were not there before.
func forgive(errs, before field.ErrorList) field.ErrorList {
	was := map[string]bool{}
	for _, e := range before {
		was[e.Error()] = true
	}
	var out field.ErrorList
	for _, e := range errs {
		if !was[e.Error()] {
			out = append(out, e)
		}
	}
	return out
}

// fieldError gives what the validator of OpenAPI schemas found the form that errors of the API have.
func fieldError(err error) *field.Error {
	v, ok := err.(*openapierrors.Validation)
	if !ok {
		return field.Invalid(nil, "", err.Error())
	}
	var path *field.Path
	if name := strings.TrimPrefix(v.Name, "."); name != "" {
		path = field.NewPath(name)
	}
	value := v.Value
	if value == nil {
		value = ""
	}
	limit, _ := v.Valid.(int64)
	had, _ := v.Value.(int64)
	switch v.Code() {
	case openapierrors.RequiredFailCode:
		return field.Required(path, "")
	case openapierrors.EnumFailCode:
		return field.NotSupported(path, v.Value, enumOf(v.Values))
	case openapierrors.TooLongFailCode:
		return field.TooLong(path, "", int(limit))
	case openapierrors.MaxItemsFailCode, openapierrors.TooManyPropertiesCode:
		return field.TooMany(path, int(had), int(limit))
	case openapierrors.InvalidTypeCode:
		return field.TypeInvalid(path, value, v.Error())
	}
	return field.Invalid(path, value, v.Error())
}

func enumOf(values []any) []string {
	out := make([]string, 0, len(values))
	for _, v := range values {
		if s, ok := v.(string); ok {
			out = append(out, s)
			continue
		}
		b, err := json.Marshal(v)
		if err != nil {
			b = fmt.Append(nil, v)
		}
		out = append(out, string(b))
	}
	return out
}
