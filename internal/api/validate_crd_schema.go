package api

import (
	"fmt"
	"maps"
	"regexp"
	"slices"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// maxSchemaDepth bounds how deep a schema may nest: each level costs stack wherever it is walked.
const maxSchemaDepth = 100

// validateDefinitionSchema checks that a version has a schema, that it is structural, and that nothing in it is beyond what
// such a schema may say.
func validateDefinitionSchema(v *apiextensionsv1.CustomResourceDefinitionVersion, at *field.Path) field.ErrorList {
	if v.Schema == nil || v.Schema.OpenAPIV3Schema == nil {
		return field.ErrorList{field.Required(at, "schemas are required")}
	}
	root := v.Schema.OpenAPIV3Schema
	if errs := validateSchemaNode(root, at, 0); len(errs) > 0 {
		return errs
	}
	s, err := StructuralSchema(root)
	if err != nil {
		return field.ErrorList{field.Invalid(at, "", err.Error())}
	}
	errs := structuralschema.ValidateStructural(at, s)
	if root.Type != "" && root.Type != "object" {
		errs = append(errs, field.Invalid(at.Child("type"), root.Type, "must be object at the root"))
	}
	if len(errs) > 0 {
		return errs
	}
	return validateExpressions(s, true, at)
}

// StructuralSchema returns the structural form of a schema.
func StructuralSchema(p *apiextensionsv1.JSONSchemaProps) (*structuralschema.Structural, error) {
	var in apiextensions.JSONSchemaProps
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(p, &in, nil); err != nil {
		return nil, fmt.Errorf("convert schema: %w", err)
	}
	return structuralschema.NewStructural(&in)
}

func validateSchemaNode(p *apiextensionsv1.JSONSchemaProps, at *field.Path, depth int) field.ErrorList {
	if p == nil {
		return nil
	}
	if depth > maxSchemaDepth {
		return field.ErrorList{field.Invalid(at, "", fmt.Sprintf("is nested more than %d levels deep", maxSchemaDepth))}
	}
	errs := validateSchemaWords(p, at)
	below := func(q *apiextensionsv1.JSONSchemaProps, here *field.Path) {
		errs = append(errs, validateSchemaNode(q, here, depth+1)...)
	}
	for _, name := range slices.Sorted(maps.Keys(p.Properties)) {
		q := p.Properties[name]
		below(&q, at.Child("properties").Key(name))
	}
	if p.Items != nil {
		below(p.Items.Schema, at.Child("items"))
	}
	if p.AdditionalProperties != nil {
		below(p.AdditionalProperties.Schema, at.Child("additionalProperties"))
	}
	below(p.Not, at.Child("not"))
	for i := range p.AllOf {
		below(&p.AllOf[i], at.Child("allOf").Index(i))
	}
	for i := range p.AnyOf {
		below(&p.AnyOf[i], at.Child("anyOf").Index(i))
	}
	for i := range p.OneOf {
		below(&p.OneOf[i], at.Child("oneOf").Index(i))
	}
	return errs
}

// validateSchemaWords checks what one level of a schema says.
func validateSchemaWords(p *apiextensionsv1.JSONSchemaProps, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	forbid := func(set bool, name, why string) {
		if set {
			errs = append(errs, field.Forbidden(at.Child(name), why))
		}
	}
	forbid(p.UniqueItems, "uniqueItems", "uniqueItems cannot be set to true since the runtime complexity becomes quadratic")
	forbid(p.AdditionalProperties != nil && len(p.Properties) > 0, "additionalProperties", "additionalProperties and properties are mutual exclusive")
	forbid(p.AdditionalProperties != nil && p.AdditionalProperties.Schema == nil && !p.AdditionalProperties.Allows, "additionalProperties", "additionalProperties cannot be set to false")
	forbid(p.Ref != nil, "$ref", "$ref is not supported")
	forbid(p.ID != "", "id", "id is not supported")
	forbid(len(p.Definitions) > 0, "definitions", "definitions is not supported")
	forbid(len(p.Dependencies) > 0, "dependencies", "dependencies is not supported")
	forbid(len(p.PatternProperties) > 0, "patternProperties", "patternProperties is not supported")
	forbid(p.AdditionalItems != nil, "additionalItems", "additionalItems is not supported")
	forbid(p.Items != nil && len(p.Items.JSONSchemas) > 0, "items", "items must be a schema object and not an array")
	if p.Pattern != "" {
		if _, err := regexp.Compile(p.Pattern); err != nil {
			errs = append(errs, field.Invalid(at.Child("pattern"), p.Pattern, fmt.Sprintf("must be a valid regular expression, but isn't: %v", err)))
		}
	}
	if p.Type == "array" && p.Items == nil {
		errs = append(errs, field.Required(at.Child("items"), "must be specified"))
	}
	return append(errs, validateSchemaTopology(p, at)...)
}

// validateSchemaTopology checks how lists and maps are merged.
func validateSchemaTopology(p *apiextensionsv1.JSONSchemaProps, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if p.XListType == nil {
		if len(p.XListMapKeys) > 0 {
			errs = append(errs, field.Required(at.Child("x-kubernetes-list-type"), "must be map if x-kubernetes-list-map-keys is non-empty"))
		}
	} else {
		if p.Type != "array" {
			errs = append(errs, field.Invalid(at.Child("type"), p.Type, "must be array if x-kubernetes-list-type is specified"))
		}
		errs = append(errs, optionalOneOf(p.XListType, at.Child("x-kubernetes-list-type"), "atomic", "set", "map")...)
		if *p.XListType == "map" && len(p.XListMapKeys) == 0 {
			errs = append(errs, field.Required(at.Child("x-kubernetes-list-map-keys"), "must not be empty if x-kubernetes-list-type is map"))
		}
		if *p.XListType == "map" && p.Items != nil && p.Items.Schema != nil {
			for i, key := range p.XListMapKeys {
				if _, ok := p.Items.Schema.Properties[key]; !ok {
					errs = append(errs, field.Invalid(at.Child("x-kubernetes-list-map-keys").Index(i), key, "entries must all be names of item properties"))
				}
			}
		}
	}
	if p.XMapType != nil {
		if p.Type != "object" {
			errs = append(errs, field.Invalid(at.Child("type"), p.Type, "must be object if x-kubernetes-map-type is specified"))
		}
		errs = append(errs, optionalOneOf(p.XMapType, at.Child("x-kubernetes-map-type"), "atomic", "granular")...)
	}
	return errs
}
