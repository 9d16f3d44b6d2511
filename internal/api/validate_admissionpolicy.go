package api

import (
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validateAdmissionPolicy checks everything but what the expressions say.
func validateAdmissionPolicy(p *admissionregistrationv1.ValidatingAdmissionPolicy) field.ErrorList {
	s, at := &p.Spec, field.NewPath("spec")
	errs := optionalOneOf(s.FailurePolicy, at.Child("failurePolicy"), admissionregistrationv1.Fail, admissionregistrationv1.Ignore)
	if s.ParamKind != nil {
		errs = append(errs, validateParamKind(s.ParamKind, at.Child("paramKind"))...)
	}
	if m := s.MatchConstraints; m == nil {
		errs = append(errs, field.Required(at.Child("matchConstraints"), ""))
	} else {
		errs = append(errs, validateMatch(m, at.Child("matchConstraints"))...)
		if len(m.ResourceRules) == 0 {
			errs = append(errs, field.Required(at.Child("matchConstraints", "resourceRules"), ""))
		}
	}
	errs = append(errs, validateMatchConditions(s.MatchConditions, at.Child("matchConditions"))...)
	names := seen[string]{}
	for i, v := range s.Variables {
		at := at.Child("variables").Index(i)
		errs = append(errs, required(v.Name, at.Child("name"))...)
		if v.Name != "" {
			errs = append(errs, each(at.Child("name"), v.Name, utilvalidation.IsCIdentifier(v.Name))...)
		}
		if names.add(v.Name) {
			errs = append(errs, field.Duplicate(at.Child("name"), v.Name))
		}
		errs = append(errs, required(strings.TrimSpace(v.Expression), at.Child("expression"))...)
	}
	if len(s.Validations) == 0 && len(s.AuditAnnotations) == 0 {
		const why = "validations or auditAnnotations must contain at least one item"
		errs = append(errs, field.Required(at.Child("validations"), why), field.Required(at.Child("auditAnnotations"), why))
	}
	for i := range s.Validations {
		errs = append(errs, validateAdmissionRule(&s.Validations[i], at.Child("validations").Index(i))...)
	}
	keys := seen[string]{}
	for i, a := range s.AuditAnnotations {
		at := at.Child("auditAnnotations").Index(i)
		if a.Key == "" {
			errs = append(errs, field.Required(at.Child("key"), ""))
		} else {
			errs = append(errs, isQualifiedName(p.Name+"/"+a.Key, at.Child("key"))...)
		}
		if keys.add(a.Key) {
			errs = append(errs, field.Duplicate(at.Child("key"), a.Key))
		}
		errs = append(errs, required(strings.TrimSpace(a.ValueExpression), at.Child("valueExpression"))...)
	}
	return errs
}

func validateAdmissionRule(v *admissionregistrationv1.Validation, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if strings.TrimSpace(v.Expression) == "" {
		errs = append(errs, field.Required(at.Child("expression"), "expression is not specified"))
	}
	switch message := strings.TrimSpace(v.Message); {
	case v.Message != "" && message == "":
		errs = append(errs, field.Invalid(at.Child("message"), v.Message, "message must be non-empty if specified"))
	case strings.ContainsAny(message, "\n\r"):
		errs = append(errs, field.Invalid(at.Child("message"), v.Message, "message must not contain line breaks"))
	case message == "" && strings.ContainsAny(strings.TrimSpace(v.Expression), "\n\r"):
		errs = append(errs, field.Required(at.Child("message"), "message must be specified if expression contains line breaks"))
	}
	return append(errs, optionalOneOf(v.Reason, at.Child("reason"), metav1.StatusReasonForbidden, metav1.StatusReasonInvalid,
		metav1.StatusReasonRequestEntityTooLarge, metav1.StatusReasonUnauthorized)...)
}

func validateParamKind(k *admissionregistrationv1.ParamKind, at *field.Path) field.ErrorList {
	errs := required(k.APIVersion, at.Child("apiVersion"))
	if gv, err := schema.ParseGroupVersion(k.APIVersion); err != nil {
		errs = append(errs, field.Invalid(at.Child("apiVersion"), k.APIVersion, err.Error()))
	} else if k.APIVersion != "" {
		errs = append(errs, each(at.Child("apiVersion"), gv.Version, utilvalidation.IsDNS1035Label(gv.Version))...)
	}
	if k.Kind == "" {
		return append(errs, field.Required(at.Child("kind"), ""))
	}
	for _, why := range utilvalidation.IsDNS1035Label(strings.ToLower(k.Kind)) {
		errs = append(errs, field.Invalid(at.Child("kind"), k.Kind, "may have mixed case, but should otherwise match: "+why))
	}
	return errs
}

func validateMatch(m *admissionregistrationv1.MatchResources, at *field.Path) field.ErrorList {
	errs := optionalOneOf(m.MatchPolicy, at.Child("matchPolicy"), admissionregistrationv1.Equivalent, admissionregistrationv1.Exact)
	if m.NamespaceSelector != nil {
		errs = append(errs, isSelector(m.NamespaceSelector, at.Child("namespaceSelector"))...)
	}
	if m.ObjectSelector != nil {
		errs = append(errs, isSelector(m.ObjectSelector, at.Child("objectSelector"))...)
	}
	rules := func(list []admissionregistrationv1.NamedRuleWithOperations, at *field.Path) {
		for i := range list {
			at := at.Index(i)
			errs = append(errs, validateWebhookRule(&list[i].RuleWithOperations, at)...)
			names := seen[string]{}
			for j, n := range list[i].ResourceNames {
				errs = append(errs, each(at.Child("resourceNames").Index(j), n, pathSegment(n, false))...)
				if names.add(n) {
					errs = append(errs, field.Duplicate(at.Child("resourceNames").Index(j), n))
				}
			}
		}
	}
	rules(m.ResourceRules, at.Child("resourceRules"))
	rules(m.ExcludeResourceRules, at.Child("excludeResourceRules"))
	return errs
}

func validateAdmissionBinding(b *admissionregistrationv1.ValidatingAdmissionPolicyBinding) field.ErrorList {
	s, at := &b.Spec, field.NewPath("spec")
	errs := required(s.PolicyName, at.Child("policyName"))
	if s.PolicyName != "" {
		errs = append(errs, each(at.Child("policyName"), s.PolicyName, validation.NameIsDNSSubdomain(s.PolicyName, false))...)
	}
	if s.ParamRef != nil {
		errs = append(errs, validateParamRef(s.ParamRef, at.Child("paramRef"))...)
	}
	if s.MatchResources != nil {
		errs = append(errs, validateMatch(s.MatchResources, at.Child("matchResources"))...)
	}
	if len(s.ValidationActions) == 0 {
		errs = append(errs, field.Required(at.Child("validationActions"), "at least one validation action is required"))
	}
	had := seen[admissionregistrationv1.ValidationAction]{}
	for i, a := range s.ValidationActions {
		at := at.Child("validationActions").Index(i)
		errs = append(errs, oneOf(a, at, admissionregistrationv1.Audit, admissionregistrationv1.Deny, admissionregistrationv1.Warn)...)
		if had.add(a) {
			errs = append(errs, field.Duplicate(at, a))
		}
	}
	if had[admissionregistrationv1.Deny] && had[admissionregistrationv1.Warn] {
		errs = append(errs, field.Invalid(at.Child("validationActions"), s.ValidationActions, "must not contain both Deny and Warn (repeating the same validation "+
			"failure information in the API response and headers serves no purpose)"))
	}
	return errs
}

func validateParamRef(r *admissionregistrationv1.ParamRef, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch {
	case r.Name != "" && r.Selector != nil:
		errs = append(errs, field.Forbidden(at.Child("name"), "name and selector are mutually exclusive"))
	case r.Name == "" && r.Selector == nil:
		errs = append(errs, field.Required(at, "one of name or selector must be specified"))
	case r.Name != "":
		errs = append(errs, each(at.Child("name"), r.Name, pathSegment(r.Name, false))...)
	default:
		errs = append(errs, isSelector(r.Selector, at.Child("selector"))...)
	}
	if r.ParameterNotFoundAction == nil {
		return append(errs, field.Required(at.Child("parameterNotFoundAction"), ""))
	}
	return append(errs, oneOf(*r.ParameterNotFoundAction, at.Child("parameterNotFoundAction"), admissionregistrationv1.AllowAction, admissionregistrationv1.DenyAction)...)
}
