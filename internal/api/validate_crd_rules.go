package api

import (
	"maps"
	"slices"
	"strings"

	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model"
	"k8s.io/apimachinery/pkg/util/validation/field"
	limits "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/environment"
)

// validateExpressions compiles the rules in CEL that a schema has, everywhere in it.
func validateExpressions(s *structuralschema.Structural, root bool, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(s.XValidations) > 0 {
		errs = compileRules(s, root, at.Child("x-kubernetes-validations"))
	}
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		p := s.Properties[name]
		errs = append(errs, validateExpressions(&p, p.XEmbeddedResource, at.Child("properties").Key(name))...)
	}
	if s.Items != nil {
		errs = append(errs, validateExpressions(s.Items, s.Items.XEmbeddedResource, at.Child("items"))...)
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Structural != nil {
		p := s.AdditionalProperties.Structural
		errs = append(errs, validateExpressions(p, p.XEmbeddedResource, at.Child("additionalProperties"))...)
	}
	return errs
}

func compileRules(s *structuralschema.Structural, root bool, at *field.Path) field.ErrorList {
	declared := model.SchemaDeclType(s, root)
	if declared == nil {
		return field.ErrorList{field.Invalid(at, "", "rules need a schema that says of what type the value is")}
	}
	results, err := cel.Compile(s, declared, limits.PerCallLimit, environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()), cel.NewExpressionsEnvLoader())
	if err != nil {
		return field.ErrorList{field.InternalError(at, err)}
	}
	var errs field.ErrorList
	for i, r := range results {
		rule := &s.XValidations[i]
		if strings.TrimSpace(rule.Rule) == "" {
			errs = append(errs, field.Required(at.Index(i).Child("rule"), "rule is not specified"))
		}
		if r.Error != nil {
			errs = append(errs, field.Invalid(at.Index(i).Child("rule"), rule.Rule, r.Error.Detail))
		}
		if r.MessageExpressionError != nil {
			errs = append(errs, field.Invalid(at.Index(i).Child("messageExpression"), rule.MessageExpression, r.MessageExpressionError.Detail))
		}
	}
	return errs
}
