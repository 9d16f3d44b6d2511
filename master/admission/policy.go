package admission

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	k8sadmission "k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/master/admission/expression"
)

// policies refuses, or warns of, what ValidatingAdmissionPolicies are against where they are bound.
type policies struct {
	reader   Reader
	kind     func(schema.GroupVersionKind) (*api.Kind, bool)
	authz    authorizer.UnconditionalAuthorizer
	compiled *expression.Cache[*expression.Policy]
}

func newPolicies(c Config) policies {
	return policies{c.Reader, c.Kind, c.Authorizer, &expression.Cache[*expression.Policy]{}}
}

func (p policies) Admit(ctx context.Context, r *Request) error {
	if err := checkExpressions(r); err != nil {
		return err
	}
	if unhooked(r) {
		return nil
	}
	l, err := p.reader.List(ctx, api.ValidatingAdmissionPolicies, client.ListOptions{ResourceVersion: "0"})
	if err != nil || len(l.Items) == 0 {
		return err
	}
	bindings, err := p.bindings(ctx)
	if err != nil || len(bindings) == 0 {
		return err
	}
	ask := &asking{policies: p, r: r}
	all := make([]*admissionregistrationv1.ValidatingAdmissionPolicy, 0, len(l.Items))
	for _, o := range l.Items {
		if policy, ok := o.(*admissionregistrationv1.ValidatingAdmissionPolicy); ok {
			all = append(all, policy)
			ask.live = append(ask.live, string(policy.UID))
		}
	}
	slices.SortFunc(all, func(a, b *admissionregistrationv1.ValidatingAdmissionPolicy) int { return cmp.Compare(a.Name, b.Name) })
	for _, policy := range all {
		if err := ask.about(ctx, policy, bindings[policy.Name]); err != nil {
			return err
		}
	}
	return ask.refusal
}

// bindings returns them by the name of their policy, each in the order of their own.
func (p policies) bindings(ctx context.Context) (map[string][]*admissionregistrationv1.ValidatingAdmissionPolicyBinding, error) {
	l, err := p.reader.List(ctx, api.ValidatingAdmissionPolicyBindings, client.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return nil, err
	}
	out := map[string][]*admissionregistrationv1.ValidatingAdmissionPolicyBinding{}
	for _, o := range l.Items {
		if b, ok := o.(*admissionregistrationv1.ValidatingAdmissionPolicyBinding); ok {
			out[b.Spec.PolicyName] = append(out[b.Spec.PolicyName], b)
		}
	}
	for _, all := range out {
		slices.SortFunc(all, func(a, b *admissionregistrationv1.ValidatingAdmissionPolicyBinding) int {
			return cmp.Compare(a.Name, b.Name)
		})
	}
	return out, nil
}

// asking is one request that policies are asked about.
type asking struct {
	policies
	r       *Request
	live    []string
	input   *expression.Input // made when a policy wants it
	refusal error             // the first one
}

// about asks one policy, once for each of its bindings and each of that one's parameters.
func (a *asking) about(ctx context.Context, policy *admissionregistrationv1.ValidatingAdmissionPolicy, bindings []*admissionregistrationv1.ValidatingAdmissionPolicyBinding) error {
	if len(bindings) == 0 {
		return nil
	}
	if about, err := concerns(ctx, a.reader, policy.Spec.MatchConstraints, a.r); err != nil || !about {
		return err
	}
	compiled := a.compiled.Get(string(policy.UID), policy.ResourceVersion, a.live, func() *expression.Policy { return expression.NewPolicy(&policy.Spec) })
	for _, b := range bindings {
		if about, err := concerns(ctx, a.reader, b.Spec.MatchResources, a.r); err != nil {
			return err
		} else if !about {
			continue
		}
		if err := a.prepare(ctx); err != nil {
			return err
		}
		params, err := a.params(ctx, policy.Spec.ParamKind, b.Spec.ParamRef)
		if err != nil {
			if policy.Spec.FailurePolicy == nil || *policy.Spec.FailurePolicy == admissionregistrationv1.Fail {
				a.refuse(policy, b, expression.Verdict{Message: "failed to configure binding: " + err.Error()})
			}
			continue
		}
		for _, param := range params {
			against, notes := compiled.Evaluate(ctx, a.input, param)
			for _, v := range against {
				a.act(policy, b, v)
			}
			for key, text := range notes {
				a.r.note(policy.Name+"/"+key, text)
			}
		}
	}
	return nil
}

// act does what a binding wants done with what its policy says.
func (a *asking) act(policy *admissionregistrationv1.ValidatingAdmissionPolicy, b *admissionregistrationv1.ValidatingAdmissionPolicyBinding, v expression.Verdict) {
	for _, action := range b.Spec.ValidationActions {
		switch action {
		case admissionregistrationv1.Deny:
			a.refuse(policy, b, v)
		case admissionregistrationv1.Warn:
			a.r.warn(fmt.Sprintf("Validation failed for ValidatingAdmissionPolicy '%s' with binding '%s': %s", policy.Name, b.Name, v.Message))
		case admissionregistrationv1.Audit:
			a.r.note("validation.policy.admission.k8s.io/validation_failure", fmt.Sprintf("%s, bound by %s: %s", policy.Name, b.Name, v.Message))
		}
	}
}

func (a *asking) refuse(policy *admissionregistrationv1.ValidatingAdmissionPolicy, b *admissionregistrationv1.ValidatingAdmissionPolicyBinding, v expression.Verdict) {
	if a.refusal != nil {
		return
	}
	message := fmt.Sprintf("ValidatingAdmissionPolicy '%s' with binding '%s' denied request: %s", policy.Name, b.Name, v.Message)
	err := a.r.forbidden(errors.New(message))
	err.ErrStatus.Reason = cmp.Or(v.Reason, metav1.StatusReasonInvalid)
	switch err.ErrStatus.Reason {
	case metav1.StatusReasonForbidden:
		err.ErrStatus.Code = http.StatusForbidden
	case metav1.StatusReasonUnauthorized:
		err.ErrStatus.Code = http.StatusUnauthorized
	case metav1.StatusReasonRequestEntityTooLarge:
		err.ErrStatus.Code = http.StatusRequestEntityTooLarge
	default:
		err.ErrStatus.Code = http.StatusUnprocessableEntity
	}
	err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{Message: message})
	a.refusal = err
}

// prepare makes the input of the expressions.
func (a *asking) prepare(ctx context.Context) error {
	if a.input != nil {
		return nil
	}
	var err error
	a.input, err = inputOf(ctx, a.reader, a.r, a.authz)
	return err
}

// inputOf is a request as expressions see it.
func inputOf(ctx context.Context, from Reader, r *Request, authz authorizer.UnconditionalAuthorizer) (*expression.Input, error) {
	var ns *corev1.Namespace
	if r.Kind.Namespaced {
		o, err := find(ctx, from, api.Namespaces, client.Key{Name: r.Key.Namespace})
		if err != nil {
			return nil, err
		}
		ns = o.(*corev1.Namespace)
	}
	who := &user.DefaultInfo{Name: component, Groups: []string{user.AllAuthenticated}}
	if u := r.User; u != nil {
		who = &user.DefaultInfo{Name: u.Name, UID: u.UID, Groups: u.Groups, Extra: u.Extra}
	}
	var object, old runtime.Object // nil, not a nil Object
	if r.Object != nil {
		object = r.Object
	}
	if r.OldObject != nil {
		old = r.OldObject
	}
	namespace := r.Key.Namespace
	if r.Kind == api.Namespaces {
		namespace = r.Key.Name
	}
	attributes := k8sadmission.NewAttributesRecord(object, old, r.Kind.GroupVersionKind, namespace, r.Key.Name, r.Kind.GVR(), r.Subresource,
		k8sadmission.Operation(r.Operation), nil, r.DryRun, who)
	return expression.NewInput(attributes, object, old, ns, authz), nil
}

// params returns the objects that a binding gives its policy: one nil where it gives none.
func (a *asking) params(ctx context.Context, kind *admissionregistrationv1.ParamKind, ref *admissionregistrationv1.ParamRef) ([]runtime.Object, error) {
	if kind == nil || ref == nil {
		return []runtime.Object{nil}, nil
	}
	var k *api.Kind
	known := false
	if a.kind != nil {
		k, known = a.kind(schema.FromAPIVersionAndKind(kind.APIVersion, kind.Kind))
	}
	if !known {
		return nil, fmt.Errorf("paramKind kind `%s` not known", kind)
	}
	namespace := ""
	switch {
	case !k.Namespaced && ref.Namespace != "":
		return nil, errors.New("paramRef.namespace must not be provided for a cluster-scoped `paramKind`")
	case k.Namespaced:
		if namespace = cmp.Or(ref.Namespace, a.r.Key.Namespace); namespace == "" {
			return nil, errors.New("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources")
		}
	}
	var found []runtime.Object
	if ref.Name != "" {
		o, err := find(ctx, a.reader, k, client.Key{Namespace: namespace, Name: ref.Name})
		if err != nil && !apierrors.IsNotFound(err) {
			return nil, err
		}
		if err == nil {
			found = append(found, o)
		}
	} else {
		selector, err := metav1.LabelSelectorAsSelector(ref.Selector)
		if err != nil {
			return nil, err
		}
		l, err := a.reader.List(ctx, k, client.ListOptions{Namespace: namespace, ResourceVersion: "0"})
		if err != nil {
			return nil, err
		}
		for _, o := range l.Items {
			if selector.Matches(labels.Set(o.GetLabels())) {
				found = append(found, o)
			}
		}
	}
	if len(found) == 0 && ref.ParameterNotFoundAction != nil && *ref.ParameterNotFoundAction == admissionregistrationv1.DenyAction {
		return nil, expression.ErrNoParams
	}
	return found, nil
}

// concerns reports whether constraints are about a request; none are about everything.
func concerns(ctx context.Context, from Reader, m *admissionregistrationv1.MatchResources, r *Request) (bool, error) {
	if m == nil {
		return true, nil
	}
	h := hook{ValidatingWebhook: admissionregistrationv1.ValidatingWebhook{MatchPolicy: m.MatchPolicy, NamespaceSelector: m.NamespaceSelector, ObjectSelector: m.ObjectSelector}}
	named := func(rules []admissionregistrationv1.NamedRuleWithOperations) bool {
		return slices.ContainsFunc(rules, func(rule admissionregistrationv1.NamedRuleWithOperations) bool {
			return h.covers(&rule.RuleWithOperations, r) && (len(rule.ResourceNames) == 0 || slices.Contains(rule.ResourceNames, r.Key.Name))
		})
	}
	if len(m.ResourceRules) > 0 && !named(m.ResourceRules) || named(m.ExcludeResourceRules) {
		return false, nil
	}
	return newPlace(from, r).has(ctx, h)
}

// checkExpressions refuses policies and webhooks whose expressions cannot be compiled.
func checkExpressions(r *Request) error {
	if r.Subresource != "" || r.Object == nil {
		return nil
	}
	var errs field.ErrorList
	switch o := r.Object.(type) {
	case *admissionregistrationv1.ValidatingAdmissionPolicy:
		errs = expression.Check(&o.Spec, field.NewPath("spec"))
	case *admissionregistrationv1.ValidatingWebhookConfiguration:
		for i := range o.Webhooks {
			errs = append(errs, expression.CheckConditions(o.Webhooks[i].MatchConditions, field.NewPath("webhooks").Index(i).Child("matchConditions"))...)
		}
	case *admissionregistrationv1.MutatingWebhookConfiguration:
		for i := range o.Webhooks {
			errs = append(errs, expression.CheckConditions(o.Webhooks[i].MatchConditions, field.NewPath("webhooks").Index(i).Child("matchConditions"))...)
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return apierrors.NewInvalid(r.Kind.GroupKind(), r.Key.Name, errs)
}
