package admission

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"sigs.k8s.io/yaml"

	"shoal/internal/api"
	"shoal/internal/client"
)

// policyOf returns a policy about pods, with a spec in YAML besides.
func policyOf(t testing.TB, name, spec string) *admissionregistrationv1.ValidatingAdmissionPolicy {
	t.Helper()
	p := &admissionregistrationv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), ResourceVersion: "1"}}
	if err := yaml.UnmarshalStrict([]byte(spec), &p.Spec); err != nil {
		t.Fatalf("%s: %v", spec, err)
	}
	if p.Spec.MatchConstraints == nil {
		p.Spec.MatchConstraints = &admissionregistrationv1.MatchResources{ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{
			RuleWithOperations: admissionregistrationv1.RuleWithOperations{
				Operations: []admissionregistrationv1.OperationType{"*"},
				Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
			},
		}}}
	}
	api.ValidatingAdmissionPolicies.Default(p)
	return p
}

func bindingOf(t testing.TB, name, spec string) *admissionregistrationv1.ValidatingAdmissionPolicyBinding {
	t.Helper()
	b := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if err := yaml.UnmarshalStrict([]byte(spec), &b.Spec); err != nil {
		t.Fatalf("%s: %v", spec, err)
	}
	api.ValidatingAdmissionPolicyBindings.Default(b)
	return b
}

// onlyJane may do anything.
type onlyJane struct{}

func (onlyJane) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	if a.GetUser().GetName() == "jane" && a.GetVerb() == "admire" {
		return authorizer.DecisionAllow, "", nil
	}
	return authorizer.DecisionNoOpinion, "", nil
}

func newPoliciesOf(s shelf) policies {
	return newPolicies(Config{Reader: s, Authorizer: onlyJane{}, Kind: func(gvk schema.GroupVersionKind) (*api.Kind, bool) {
		return api.ConfigMaps, gvk == api.ConfigMaps.GroupVersionKind
	}})
}

func TestPolicies(t *testing.T) {
	const always = `validations: [{expression: "false"}]`
	const deny = `{policyName: p, validationActions: [Deny]}`
	said := func(s string) string {
		return "422 Invalid: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: " + s
	}
	for name, c := range map[string]struct {
		policy  string
		binding string
		request func(r *Request)
		want    string // code, reason and message; empty: admitted
		warned  string
		noted   string
	}{
		"true":      {policy: `validations: [{expression: "true"}]`},
		"false":     {policy: always, want: said("failed expression: false")},
		"a message": {policy: `validations: [{expression: "false", message: "no pods"}]`, want: said("no pods")},
		"a message that is made": {
			policy: `validations: [{expression: "false", message: other, messageExpression: "'not ' + object.metadata.name"}]`, want: said("not p"),
		},
		"a made message of two lines": {
			policy: `{validations: [{expression: "false", message: other, messageExpression: '"a\nb"'}]}`, want: said("other"),
		},
		"a reason": {
			policy: `validations: [{expression: "false", message: m, reason: Forbidden}]`,
			want:   "403 Forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: m",
		},
		"the object":        {policy: `validations: [{expression: "object.spec.containers.all(c, c.image == 'app')"}]`},
		"the object's kind": {policy: `validations: [{expression: "object.kind == 'Pod' && object.apiVersion == 'v1'"}]`},
		"labels":            {policy: `validations: [{expression: "object.metadata.labels['app'] == 'web'"}]`},
		"quantities":        {policy: `validations: [{expression: "quantity('1Gi').isGreaterThan(quantity('1Mi'))"}]`},
		"variables":         {policy: `{variables: [{name: count, expression: "size(object.spec.containers)"}], validations: [{expression: "variables.count > 5", messageExpression: "string(variables.count)"}]}`, want: said("1")},
		"the request":       {policy: `validations: [{expression: "request.operation == 'CREATE' && request.userInfo.username == 'jane' && request.namespace == 'default' && !request.dryRun"}]`},
		"no old object":     {policy: `validations: [{expression: "oldObject == null"}]`},
		"an old object": {
			policy:  `validations: [{expression: "oldObject.metadata.name == object.metadata.name"}]`,
			request: func(r *Request) { r.Operation, r.OldObject = Update, r.Object },
		},
		"a deletion": {
			policy:  `validations: [{expression: "object == null && oldObject != null"}]`,
			request: func(r *Request) { r.Operation, r.Object, r.OldObject = Delete, nil, r.Object },
		},
		"the namespace":     {policy: `validations: [{expression: "namespaceObject.metadata.labels['team'] == 'a'"}]`},
		"who may do what":   {policy: `validations: [{expression: "authorizer.group('').resource('pods').check('admire').allowed() && !authorizer.group('').resource('pods').check('get').allowed()"}]`},
		"by this process":   {policy: `validations: [{expression: "request.userInfo.username == 'system:kube-controller-manager'"}]`, request: func(r *Request) { r.User = nil }},
		"an error":          {policy: `validations: [{expression: "object.spec.nonsense == 1"}]`, want: said("expression 'object.spec.nonsense == 1' resulted in error: no such key: nonsense")},
		"an error, ignored": {policy: `{failurePolicy: Ignore, validations: [{expression: "object.spec.nonsense == 1"}]}`},
		"too costly": {
			policy: `{validations: [{expression: "[1,2,3,4,5,6,7,8,9,10].all(a, [1,2,3,4,5,6,7,8,9,10].all(b, [1,2,3,4,5,6,7,8,9,10].all(c, [1,2,3,4,5,6,7,8,9,10].all(d, [1,2,3,4,5,6,7,8,9,10].all(e, [1,2,3,4,5,6,7,8,9,10].all(f, [1,2,3,4,5,6,7,8,9,10].all(g, [1,2,3,4,5,6,7,8,9,10].all(h, a+b+c+d+e+f+g+h > 0))))))))"}]}`,
			want:   "cost",
		},
		"cannot be compiled":                      {policy: `validations: [{expression: "nonsense("}]`, want: "compilation failed"},
		"a condition holds":                       {policy: `{matchConditions: [{name: c, expression: "request.userInfo.username == 'jane'"}], validations: [{expression: "false"}]}`, want: said("failed expression: false")},
		"a condition does not":                    {policy: `{matchConditions: [{name: c, expression: "request.userInfo.username == 'joe'"}], validations: [{expression: "false"}]}`},
		"a condition fails":                       {policy: `{matchConditions: [{name: c, expression: "object.spec.nonsense == 1"}], validations: [{expression: "true"}]}`, want: said("expression 'object.spec.nonsense == 1' resulted in error")},
		"a condition fails, and another is false": {policy: `{matchConditions: [{name: c, expression: "object.spec.nonsense == 1"}, {name: d, expression: "false"}], validations: [{expression: "false"}]}`},
		"another resource":                        {policy: `{matchConstraints: {resourceRules: [{operations: ["*"], apiGroups: [""], apiVersions: [v1], resources: [services]}]}, validations: [{expression: "false"}]}`},
		"excluded":                                {policy: `{matchConstraints: {resourceRules: [{operations: ["*"], apiGroups: [""], apiVersions: [v1], resources: [pods]}], excludeResourceRules: [{operations: ["*"], apiGroups: [""], apiVersions: [v1], resources: [pods], resourceNames: [p]}]}, validations: [{expression: "false"}]}`},
		"another name":                            {policy: `{matchConstraints: {resourceRules: [{operations: ["*"], apiGroups: [""], apiVersions: [v1], resources: [pods], resourceNames: [q]}]}, validations: [{expression: "false"}]}`},
		"not bound":                               {policy: always, binding: `{policyName: other, validationActions: [Deny]}`},
		"bound elsewhere":                         {policy: always, binding: `{policyName: p, validationActions: [Deny], matchResources: {namespaceSelector: {matchLabels: {team: b}}}}`},
		"bound here":                              {policy: always, binding: `{policyName: p, validationActions: [Deny], matchResources: {namespaceSelector: {matchLabels: {team: a}}}}`, want: said("failed expression: false")},
		"a warning":                               {policy: always, binding: `{policyName: p, validationActions: [Warn]}`, warned: "Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': failed expression: false"},
		"a note":                                  {policy: always, binding: `{policyName: p, validationActions: [Audit]}`, noted: "p, bound by b: failed expression: false"},
		"a warning and a note":                    {policy: always, binding: `{policyName: p, validationActions: [Warn, Audit]}`, warned: "Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': failed expression: false", noted: "p, bound by b: failed expression: false"},
		"a note of its own":                       {policy: `{auditAnnotations: [{key: k, valueExpression: "'made by ' + request.userInfo.username"}, {key: none, valueExpression: "null"}]}`, noted: "made by jane"},
		"a note that fails":                       {policy: `{auditAnnotations: [{key: k, valueExpression: "object.spec.nonsense + ''"}]}`, want: said("expression")},
		"parameters":                              {policy: `{paramKind: {apiVersion: v1, kind: ConfigMap}, validations: [{expression: "params.data['most'] == '5'"}]}`, binding: `{policyName: p, validationActions: [Deny], paramRef: {name: limits, parameterNotFoundAction: Deny}}`},
		"parameters that refuse":                  {policy: `{paramKind: {apiVersion: v1, kind: ConfigMap}, validations: [{expression: "params.data['most'] == '6'", messageExpression: "params.metadata.name + ' says no'"}]}`, binding: `{policyName: p, validationActions: [Deny], paramRef: {selector: {matchLabels: {a: b}}, parameterNotFoundAction: Deny}}`, want: said("limits says no")},
		"no parameters given":                     {policy: `{paramKind: {apiVersion: v1, kind: ConfigMap}, validations: [{expression: "params == null"}]}`, binding: deny},
		"parameters that are not there": {
			policy: `{paramKind: {apiVersion: v1, kind: ConfigMap}, validations: [{expression: "true"}]}`, binding: `{policyName: p, validationActions: [Deny], paramRef: {name: none, parameterNotFoundAction: Deny}}`,
			want: said("failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"),
		},
		"parameters that need not be there": {policy: `{paramKind: {apiVersion: v1, kind: ConfigMap}, validations: [{expression: "false"}]}`, binding: `{policyName: p, validationActions: [Deny], paramRef: {name: none, parameterNotFoundAction: Allow}}`},
		"parameters of no kind": {
			policy: `{paramKind: {apiVersion: x.org/v1, kind: Limit}, validations: [{expression: "true"}]}`, binding: `{policyName: p, validationActions: [Deny], paramRef: {name: none, parameterNotFoundAction: Allow}}`,
			want: "not known",
		},
	} {
		t.Run(name, func(t *testing.T) {
			binding := c.binding
			if binding == "" {
				binding = deny
			}
			s := newShelf().put(api.ValidatingAdmissionPolicies, policyOf(t, "p", c.policy)).put(api.ValidatingAdmissionPolicyBindings, bindingOf(t, "b", binding))
			ns := namespace("default", corev1.NamespaceActive)
			ns.Labels = map[string]string{"team": "a"}
			s.put(api.Namespaces, ns).put(api.ConfigMaps, &corev1.ConfigMap{
				TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "limits", Labels: map[string]string{"a": "b"}},
				Data: map[string]string{"most": "5"},
			})
			r, warned, noted := hookedPod(), "", ""
			r.Warn = func(text string) { warned += text }
			r.Note = func(_, text string) { noted += text }
			if c.request != nil {
				c.request(r)
			}
			p := newPoliciesOf(s)
			for range 2 { // the second time it is compiled already
				warned, noted = "", ""
				err := p.Admit(t.Context(), r)
				got := ""
				if status, ok := err.(*apierrors.StatusError); ok {
					_, message, _ := strings.Cut(status.ErrStatus.Message, "is forbidden: ")
					got = fmt.Sprintf("%d %s: %s", status.ErrStatus.Code, status.ErrStatus.Reason, message)
				} else if err != nil {
					t.Fatal(err)
				}
				if c.want == "" && got != "" || !strings.Contains(got, c.want) {
					t.Errorf("%q, want %q", got, c.want)
				}
			}
			if d := cmp.Diff([]string{c.warned, c.noted}, []string{warned, noted}); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// TestAChangedPolicyIsCompiledAnew and one that is gone says nothing.
func TestAChangedPolicyIsCompiledAnew(t *testing.T) {
	s := newShelf().put(api.ValidatingAdmissionPolicyBindings, bindingOf(t, "b", `{policyName: p, validationActions: [Deny]}`))
	p := newPoliciesOf(s)
	refuses := func(want bool) {
		t.Helper()
		if err := p.Admit(t.Context(), hookedPod()); (err != nil) != want {
			t.Errorf("refused: %v, want %t", err, want)
		}
	}
	refuses(false)
	s.put(api.ValidatingAdmissionPolicies, policyOf(t, "p", `validations: [{expression: "false"}]`))
	refuses(true)
	better := policyOf(t, "p", `validations: [{expression: "true"}]`)
	better.ResourceVersion = "2"
	s.put(api.ValidatingAdmissionPolicies, better)
	refuses(false)
}

// TestExpressionsAreCheckedWhenTheyAreWritten: their writer hears what is wrong, and where.
func TestExpressionsAreCheckedWhenTheyAreWritten(t *testing.T) {
	p := policyOf(t, "p", `{variables: [{name: count, expression: "1"}, {name: bad, expression: "object.("}], matchConditions: [{name: c, expression: "'text'"}],
		validations: [{expression: "variables.count > 0"}, {expression: "nobody.knows"}, {expression: "true", messageExpression: "5"}], auditAnnotations: [{key: k, valueExpression: "1 + 1"}]}`)
	r := &Request{Operation: Create, Kind: api.ValidatingAdmissionPolicies, Key: client.Key{Name: "p"}, Object: p}
	err := newPoliciesOf(newShelf()).Admit(t.Context(), r)
	status, ok := err.(*apierrors.StatusError)
	if !ok || status.ErrStatus.Code != http.StatusUnprocessableEntity {
		t.Fatalf("%v", err)
	}
	var at []string
	for _, c := range status.ErrStatus.Details.Causes {
		at = append(at, c.Field)
		if !strings.Contains(c.Message, "compilation failed") && !strings.Contains(c.Message, "must evaluate to") {
			t.Errorf("%s: %s", c.Field, c.Message)
		}
	}
	want := []string{
		"spec.variables[1].expression", "spec.matchConditions[0].expression", "spec.validations[1].expression", "spec.validations[2].messageExpression",
		"spec.auditAnnotations[0].valueExpression",
	}
	if d := cmp.Diff(want, at); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	hook := newHookServer(t)
	for _, expression := range []string{"request.userInfo.username == 'jane'", "no such"} {
		c := validating(hook.byURL(), func(w *admissionregistrationv1.ValidatingWebhook) {
			w.MatchConditions = []admissionregistrationv1.MatchCondition{{Name: "c", Expression: expression}}
		})
		r := &Request{Operation: Update, Kind: api.ValidatingWebhookConfigurations, Key: client.Key{Name: "v"}, Object: c}
		err := newPoliciesOf(newShelf()).Admit(t.Context(), r)
		if bad := expression == "no such"; bad != (err != nil) || bad && !strings.Contains(err.Error(), "webhooks[0].matchConditions[0].expression") {
			t.Errorf("%s: %v", expression, err)
		}
	}
}

func TestConditionsOfHooks(t *testing.T) {
	ignore := admissionregistrationv1.Ignore
	for _, c := range []struct {
		expression string
		failure    *admissionregistrationv1.FailurePolicyType
		asked      bool
		refused    string
	}{
		{"request.userInfo.username == 'jane'", nil, true, ""},
		{"request.userInfo.username == 'joe'", nil, false, ""},
		{"object.metadata.labels['app'] == 'web'", nil, true, ""},
		{"object.spec.nonsense == 1", nil, false, "its matchConditions"},
		{"object.spec.nonsense == 1", &ignore, false, ""},
	} {
		hook := newHookServer(t)
		s := newShelf().put(api.ValidatingWebhookConfigurations, validating(hook.byURL(), func(w *admissionregistrationv1.ValidatingWebhook) {
			w.MatchConditions, w.FailurePolicy = []admissionregistrationv1.MatchCondition{{Name: "c", Expression: c.expression}}, c.failure
		}))
		err := validate(t.Context(), s, hookedPod())
		if (c.refused == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.refused) {
			t.Errorf("%s: %v", c.expression, err)
		}
		if got := len(hook.questions()) == 1; got != c.asked {
			t.Errorf("%s: asked %t", c.expression, got)
		}
	}
}

// FuzzExpressions: whatever somebody writes is refused or costs no more than it may.
func FuzzExpressions(f *testing.F) {
	for _, s := range []string{"true", "object.metadata.name == 'p'", "[1,2].all(a, a > 0)", "'a'.matches('(a+)+$')", "authorizer.group('')", "\x00", "((((((", "object.spec.containers.map(c, c.image).join(',')"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p := policyOf(t, "p", "{}")
		p.Spec.Validations = []admissionregistrationv1.Validation{{Expression: s, MessageExpression: s}}
		shelf := newShelf().put(api.ValidatingAdmissionPolicies, p).put(api.ValidatingAdmissionPolicyBindings, bindingOf(t, "b", `{policyName: p, validationActions: [Deny]}`))
		_ = newPoliciesOf(shelf).Admit(t.Context(), hookedPod())
		_ = checkExpressions(&Request{Operation: Create, Kind: api.ValidatingAdmissionPolicies, Object: p})
	})
}

// BenchmarkPolicy is what a write pays for one policy of one rule.
func BenchmarkPolicy(b *testing.B) {
	s := newShelf().put(api.ValidatingAdmissionPolicies, policyOf(b, "p", `validations: [{expression: "object.spec.containers.all(c, c.image == 'app')"}]`)).
		put(api.ValidatingAdmissionPolicyBindings, bindingOf(b, "b", `{policyName: p, validationActions: [Deny]}`))
	p, r := newPoliciesOf(s), hookedPod()
	b.ReportAllocs()
	for b.Loop() {
		if err := p.Admit(b.Context(), r); err != nil {
			b.Fatal(err)
		}
	}
}
