package api

import (
	"net/url"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// webhook is one webhook of either kind.
type webhook struct {
	admissionregistrationv1.ValidatingWebhook
	reinvocation *admissionregistrationv1.ReinvocationPolicyType // of mutating ones
}

// validateWebhooks checks all webhooks of a configuration. Old are those stored, whose mistakes of former days are borne.
func validateWebhooks(hooks, old []webhook) field.ErrorList {
	var errs field.ErrorList
	names, at := seen[string]{}, field.NewPath("webhooks")
	unknown := slices.ContainsFunc(old, func(w webhook) bool { return !knowsReview(w.AdmissionReviewVersions) })
	for i := range hooks {
		w, at := &hooks[i], at.Index(i)
		errs = append(errs, validateWebhook(w, at, !unknown)...)
		if w.Name != "" && names.add(w.Name) && !unknown {
			errs = append(errs, field.Duplicate(at.Child("name"), w.Name))
		}
	}
	return errs
}

func knowsReview(versions []string) bool {
	return slices.Contains(versions, "v1") || slices.Contains(versions, "v1beta1")
}

func validateWebhook(w *webhook, at *field.Path, strict bool) field.ErrorList {
	errs := validation.IsFullyQualifiedName(at.Child("name"), w.Name)
	errs = append(errs, validateReviewVersions(w.AdmissionReviewVersions, at.Child("admissionReviewVersions"), strict)...)
	for i := range w.Rules {
		errs = append(errs, validateWebhookRule(&w.Rules[i], at.Child("rules").Index(i))...)
	}
	errs = append(errs, optionalOneOf(w.FailurePolicy, at.Child("failurePolicy"), admissionregistrationv1.Fail, admissionregistrationv1.Ignore)...)
	errs = append(errs, optionalOneOf(w.MatchPolicy, at.Child("matchPolicy"), admissionregistrationv1.Equivalent, admissionregistrationv1.Exact)...)
	errs = append(errs, optionalOneOf(w.reinvocation, at.Child("reinvocationPolicy"), admissionregistrationv1.NeverReinvocationPolicy, admissionregistrationv1.IfNeededReinvocationPolicy)...)
	if w.SideEffects == nil {
		errs = append(errs, field.Required(at.Child("sideEffects"), "must specify one of None, NoneOnDryRun"))
	} else {
		errs = append(errs, oneOf(*w.SideEffects, at.Child("sideEffects"), admissionregistrationv1.SideEffectClassNone, admissionregistrationv1.SideEffectClassNoneOnDryRun)...)
	}
	if t := w.TimeoutSeconds; t != nil && (*t < 1 || *t > 30) {
		errs = append(errs, field.Invalid(at.Child("timeoutSeconds"), *t, "the timeout value must be between 1 and 30 seconds"))
	}
	for name, s := range map[string]*metav1.LabelSelector{"namespaceSelector": w.NamespaceSelector, "objectSelector": w.ObjectSelector} {
		if s != nil {
			errs = append(errs, isSelector(s, at.Child(name))...)
		}
	}
	errs = append(errs, validateWebhookClient(&w.ClientConfig, at.Child("clientConfig"))...)
	return append(errs, validateMatchConditions(w.MatchConditions, at.Child("matchConditions"))...)
}

func validateReviewVersions(versions []string, at *field.Path, strict bool) field.ErrorList {
	if len(versions) == 0 {
		return field.ErrorList{field.Required(at, "must specify one of v1, v1beta1")}
	}
	var errs field.ErrorList
	names := seen[string]{}
	for i, v := range versions {
		if names.add(v) {
			errs = append(errs, field.Invalid(at.Index(i), v, "duplicate version"))
			continue
		}
		errs = append(errs, each(at.Index(i), v, validation.IsDNS1035Label(v))...)
	}
	if strict && !knowsReview(versions) {
		errs = append(errs, field.Invalid(at, versions, "must include at least one of v1, v1beta1"))
	}
	return errs
}

func validateWebhookRule(r *admissionregistrationv1.RuleWithOperations, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	some := func(list []string, name string) {
		at := at.Child(name)
		if len(list) == 0 {
			errs = append(errs, field.Required(at, ""))
		}
		if len(list) > 1 && slices.Contains(list, "*") {
			errs = append(errs, field.Invalid(at, list, "if '*' is present, must not specify other "+words(name)))
		}
		for i, s := range list {
			if s == "" && name != "apiGroups" {
				errs = append(errs, field.Required(at.Index(i), ""))
			}
		}
	}
	some(r.APIGroups, "apiGroups")
	some(r.APIVersions, "apiVersions")
	errs = append(errs, validateRuleResources(r.Resources, at.Child("resources"))...)
	if r.Scope != nil {
		errs = append(errs, oneOf(*r.Scope, at.Child("scope"), admissionregistrationv1.AllScopes, admissionregistrationv1.ClusterScope, admissionregistrationv1.NamespacedScope)...)
	}
	if len(r.Operations) == 0 {
		errs = append(errs, field.Required(at.Child("operations"), ""))
	}
	if len(r.Operations) > 1 && slices.Contains(r.Operations, admissionregistrationv1.OperationAll) {
		errs = append(errs, field.Invalid(at.Child("operations"), r.Operations, "if '*' is present, must not specify other operations"))
	}
	for i, o := range r.Operations {
		errs = append(errs, oneOf(o, at.Child("operations").Index(i), admissionregistrationv1.OperationAll, admissionregistrationv1.Connect,
			admissionregistrationv1.Create, admissionregistrationv1.Delete, admissionregistrationv1.Update)...)
	}
	return errs
}

// words makes "API groups" of "apiGroups".
func words(name string) string { return "API " + strings.ToLower(strings.TrimPrefix(name, "api")) }

// validateRuleResources refuses lists of which one entry covers another.
func validateRuleResources(list []string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(list) == 0 {
		errs = append(errs, field.Required(at, ""))
	}
	whole, subs := seen[string]{}, seen[string]{} // resources of which all subresources are meant, and the other way round
	for i, s := range list {
		if s == "" {
			errs = append(errs, field.Required(at.Index(i), ""))
			continue
		}
		if s == "*/*" {
			whole.add("*")
			subs.add("*")
		}
		resource, sub, ok := strings.Cut(s, "/")
		if !ok {
			continue
		}
		if sub == "*" && whole.add(resource) && s != "*/*" {
			errs = append(errs, field.Invalid(at.Index(i), s, "if '"+resource+"/*' is present, must not specify "+s))
		}
		if resource == "*" && subs.add(sub) && s != "*/*" {
			errs = append(errs, field.Invalid(at.Index(i), s, "if '*/"+sub+"' is present, must not specify "+s))
		}
	}
	if len(list) > 1 && slices.Contains(list, "*/*") {
		errs = append(errs, field.Invalid(at, list, "if '*/*' is present, must not specify other resources"))
	}
	if len(list) > 1 && slices.Contains(list, "*") && slices.ContainsFunc(list, func(s string) bool { return s != "*" && !strings.Contains(s, "/") }) {
		errs = append(errs, field.Invalid(at, list, "if '*' is present, must not specify other resources without subresources"))
	}
	return errs
}

func validateWebhookClient(c *admissionregistrationv1.WebhookClientConfig, at *field.Path) field.ErrorList {
	switch {
	case (c.URL == nil) == (c.Service == nil):
		return field.ErrorList{field.Required(at, "exactly one of url or service is required")}
	case c.URL != nil:
		return validateWebhookURL(*c.URL, at.Child("url"))
	}
	return validateServiceReference(c.Service.Name, c.Service.Namespace, c.Service.Path, deref(c.Service.Port, 443), at.Child("service"))
}

func validateWebhookURL(s string, at *field.Path) field.ErrorList {
	const form = "; desired format: https://host[/path]"
	u, err := url.Parse(s)
	if err != nil {
		return field.ErrorList{field.Required(at, "url must be a valid URL: "+err.Error()+form)}
	}
	var errs field.ErrorList
	refuse := func(what, why string) { errs = append(errs, field.Invalid(at, what, why+form)) }
	if u.Scheme != "https" {
		refuse(u.Scheme, "'https' is the only allowed URL scheme")
	}
	if u.Host == "" {
		refuse(u.Host, "host must be specified")
	}
	if u.User != nil {
		refuse(u.User.String(), "user information is not permitted in the URL")
	}
	if u.Fragment != "" {
		refuse(u.Fragment, "fragments are not permitted in the URL")
	}
	if u.RawQuery != "" {
		refuse(u.RawQuery, "query parameters are not permitted in the URL")
	}
	return errs
}

// validateServiceReference checks where in the cluster somebody is to be called.
func validateServiceReference(name, namespace string, path *string, port int32, at *field.Path) field.ErrorList {
	errs := required(name, at.Child("name"))
	errs = append(errs, required(namespace, at.Child("namespace"))...)
	for _, why := range validation.IsValidPortNum(int(port)) {
		errs = append(errs, field.Invalid(at.Child("port"), port, "port is not valid: "+why))
	}
	if path == nil {
		return errs
	}
	at = at.Child("path")
	p := *path
	switch u, err := url.Parse(p); {
	case err != nil || u.Path != p || !strings.HasPrefix(p, "/"):
		return append(errs, field.Invalid(at, p, "must be a path that begins with '/', without a query"))
	case p == "/":
		return errs
	}
	for _, step := range strings.Split(strings.Trim(p, "/"), "/") {
		if step == "" {
			errs = append(errs, field.Invalid(at, p, "segments may not be empty"))
			continue
		}
		for _, why := range validation.IsDNS1123Subdomain(step) {
			errs = append(errs, field.Invalid(at, p, "segment: "+why))
		}
	}
	return errs
}

// validateMatchConditions checks all but what the expressions mean.
func validateMatchConditions(list []admissionregistrationv1.MatchCondition, at *field.Path) field.ErrorList {
	const most = 64
	var errs field.ErrorList
	if len(list) > most {
		errs = append(errs, field.TooMany(at, len(list), most))
	}
	names := seen[string]{}
	for i := range list {
		at := at.Index(i)
		if strings.TrimSpace(list[i].Expression) == "" {
			errs = append(errs, field.Required(at.Child("expression"), ""))
		}
		if list[i].Name == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
			continue
		}
		errs = append(errs, isQualifiedName(list[i].Name, at.Child("name"))...)
		if names.add(list[i].Name) {
			errs = append(errs, field.Duplicate(at.Child("name"), list[i].Name))
		}
	}
	return errs
}
