// Package expression evaluates what admission is told in CEL: the conditions of webhooks, and ValidatingAdmissionPolicies. The language, its libraries, its
// variables and its cost limits are those of Kubernetes' own packages. It decides nothing: package admission does.
package expression

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/google/cel-go/cel"
	celtypes "github.com/google/cel-go/common/types"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/admission"
	plugin "k8s.io/apiserver/pkg/admission/plugin/cel"
	limits "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/cel/environment"
)

// Input is what expressions are about: one request. Not safe for concurrent use.
type Input struct {
	attributes *admission.VersionedAttributes
	request    *admissionv1.AdmissionRequest
	namespace  *corev1.Namespace
	authorizer authorizer.UnconditionalAuthorizer
}

// NewInput returns the input that a request is. The namespace is nil for what is in none; so is the authorizer when nobody may do anything.
func NewInput(a admission.Attributes, object, old runtime.Object, namespace *corev1.Namespace, z authorizer.UnconditionalAuthorizer) *Input {
	in := &Input{attributes: &admission.VersionedAttributes{Attributes: a, VersionedKind: a.GetKind()}, namespace: plugin.CreateNamespaceObject(namespace), authorizer: z}
	if object != nil {
		in.attributes.VersionedObject.Set(object)
	}
	if old != nil {
		in.attributes.VersionedOldObject.Set(old)
	}
	if z == nil {
		in.authorizer = nobody{}
	}
	in.request = plugin.CreateAdmissionRequest(a, metav1.GroupVersionResource(a.GetResource()), metav1.GroupVersionKind(a.GetKind()))
	return in
}

// nobody may do anything.
type nobody struct{}

func (nobody) Authorize(context.Context, authorizer.Attributes) (authorizer.Decision, string, error) {
	return authorizer.DecisionNoOpinion, "", nil
}

// text is an expression with the types that it may have.
type text struct {
	name  string // of a variable
	says  string
	types []*cel.Type
}

func (t *text) GetName() string          { return t.name }
func (t *text) GetExpression() string    { return t.says }
func (t *text) ReturnTypes() []*cel.Type { return t.types }

// base is the environment that all expressions begin with.
var base = sync.OnceValue(func() *environment.EnvSet {
	return environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion())
})

// Conditions decide whether a webhook, or a policy, is about a request.
type Conditions struct {
	all       plugin.ConditionEvaluator
	texts     []*text
	mayIgnore bool
}

// NewConditions compiles the conditions of a webhook.
func NewConditions(all []admissionregistrationv1.MatchCondition, failure *admissionregistrationv1.FailurePolicyType) *Conditions {
	return newConditions(plugin.NewConditionCompiler(base()), all, failure, plugin.OptionalVariableDeclarations{HasAuthorizer: true})
}

func newConditions(c plugin.ConditionCompiler, all []admissionregistrationv1.MatchCondition, failure *admissionregistrationv1.FailurePolicyType, o plugin.OptionalVariableDeclarations) *Conditions {
	out := &Conditions{mayIgnore: failure != nil && *failure == admissionregistrationv1.Ignore}
	var accessors []plugin.ExpressionAccessor
	for i := range all {
		t := &text{says: all[i].Expression, types: []*cel.Type{cel.BoolType}}
		out.texts = append(out.texts, t)
		accessors = append(accessors, t)
	}
	if len(accessors) > 0 {
		out.all = c.CompileCondition(accessors, o, environment.StoredExpressions)
	}
	return out
}

// Match reports whether all conditions hold. One that is false settles it, whatever else fails; else a failure is an error, or means no where failures are to be
// ignored.
func (c *Conditions) Match(ctx context.Context, in *Input, params runtime.Object) (bool, error) {
	if c.all == nil {
		return true, nil
	}
	bindings := plugin.OptionalVariableBindings{VersionedParams: params, Authorizer: in.authorizer}
	results, _, err := c.all.ForInput(ctx, in.attributes, in.request, bindings, nil, limits.RuntimeCELCostBudgetMatchConditions)
	var failures []error
	if err != nil {
		failures = append(failures, err)
	}
	for _, r := range results {
		switch {
		case r.Error != nil:
			failures = append(failures, r.Error)
		case r.EvalResult == celtypes.False:
			return false, nil
		}
	}
	if len(failures) == 0 {
		return true, nil
	}
	if c.mayIgnore {
		return false, nil
	}
	return false, utilerrors.NewAggregate(failures)
}

// Verdict is what a policy says against a request.
type Verdict struct {
	Message string
	Reason  metav1.StatusReason
}

// Policy is a ValidatingAdmissionPolicy, compiled.
type Policy struct {
	spec        *admissionregistrationv1.ValidatingAdmissionPolicySpec
	failure     error // it could not be compiled at all
	conditions  *Conditions
	validations plugin.ConditionEvaluator
	messages    plugin.ConditionEvaluator
	annotations plugin.ConditionEvaluator
}

// NewPolicy compiles a policy. What cannot be compiled fails when it is evaluated.
func NewPolicy(spec *admissionregistrationv1.ValidatingAdmissionPolicySpec) *Policy {
	p := &Policy{spec: spec}
	c, err := plugin.NewCompositedCompiler(base())
	if err != nil {
		p.failure = err
		return p
	}
	has := plugin.OptionalVariableDeclarations{HasParams: spec.ParamKind != nil, HasAuthorizer: true}
	for _, v := range spec.Variables {
		c.CompileAndStoreVariable(&text{name: v.Name, says: v.Expression, types: []*cel.Type{cel.AnyType, cel.DynType}}, has, environment.StoredExpressions)
	}
	p.conditions = newConditions(c, spec.MatchConditions, spec.FailurePolicy, has)
	var validations, messages []plugin.ExpressionAccessor
	for _, v := range spec.Validations {
		validations = append(validations, &text{says: v.Expression, types: []*cel.Type{cel.BoolType}})
		if v.MessageExpression == "" {
			messages = append(messages, nil)
		} else {
			messages = append(messages, &text{says: v.MessageExpression, types: []*cel.Type{cel.StringType}})
		}
	}
	var annotations []plugin.ExpressionAccessor
	for _, a := range spec.AuditAnnotations {
		annotations = append(annotations, &text{says: a.ValueExpression, types: []*cel.Type{cel.StringType, cel.NullType}})
	}
	p.annotations = c.CompileCondition(annotations, plugin.OptionalVariableDeclarations{HasParams: has.HasParams, HasAuthorizer: true}, environment.StoredExpressions)
	p.validations = c.CompileCondition(validations, has, environment.StoredExpressions)
	p.messages = c.CompileCondition(messages, plugin.OptionalVariableDeclarations{HasParams: has.HasParams}, environment.StoredExpressions)
	return p
}

// Evaluate returns what a policy has against a request, and what of it belongs into the audit log, by key; params is the parameter object, or nil.
func (p *Policy) Evaluate(ctx context.Context, in *Input, params runtime.Object) ([]Verdict, map[string]string) {
	if p.failure != nil {
		return p.failed(p.failure), nil
	}
	if about, err := p.conditions.Match(ctx, in, params); err != nil {
		return p.failed(err), nil
	} else if !about {
		return nil, nil
	}
	notes, problems := p.notes(ctx, in, params)
	return append(p.validate(ctx, in, params), problems...), notes
}

// notes returns what the audit log is to say. A value that cannot be made counts as a failure of the policy.
func (p *Policy) notes(ctx context.Context, in *Input, params runtime.Object) (map[string]string, []Verdict) {
	results, _, err := p.annotations.ForInput(ctx, in.attributes, in.request,
		plugin.OptionalVariableBindings{VersionedParams: params, Authorizer: in.authorizer}, in.namespace, limits.RuntimeCELCostBudget)
	if err != nil {
		return nil, p.failed(err)
	}
	var out map[string]string
	var problems []Verdict
	for i, r := range results {
		if r.Error != nil {
			problems = append(problems, p.failed(r.Error)...)
			continue
		}
		if s, ok := r.EvalResult.Value().(string); ok && strings.TrimSpace(s) != "" {
			if out == nil {
				out = map[string]string{}
			}
			out[p.spec.AuditAnnotations[i].Key] = strings.TrimSpace(s)
		}
	}
	return out, problems
}

func (p *Policy) validate(ctx context.Context, in *Input, params runtime.Object) []Verdict {
	results, left, err := p.validations.ForInput(ctx, in.attributes, in.request,
		plugin.OptionalVariableBindings{VersionedParams: params, Authorizer: in.authorizer}, in.namespace, limits.RuntimeCELCostBudget)
	if err != nil {
		return p.failed(err)
	}
	said, _, problem := p.messages.ForInput(ctx, in.attributes, in.request, plugin.OptionalVariableBindings{VersionedParams: params}, in.namespace, left)
	var out []Verdict
	for i, r := range results {
		v := &p.spec.Validations[i]
		switch {
		case r.Error != nil:
			out = append(out, p.failed(r.Error)...)
		case r.EvalResult == celtypes.True:
		case problem != nil:
			out = append(out, p.failed(fmt.Errorf("failed messageExpression: %w", problem))...)
		default:
			reason := metav1.StatusReasonInvalid
			if v.Reason != nil {
				reason = *v.Reason
			}
			out = append(out, Verdict{messageOf(v, said, i), reason})
		}
	}
	return out
}

// failed is what it means that a policy cannot be evaluated: where failures are not to be ignored, a refusal.
func (p *Policy) failed(err error) []Verdict {
	if p.spec.FailurePolicy != nil && *p.spec.FailurePolicy == admissionregistrationv1.Ignore {
		return nil
	}
	return []Verdict{{err.Error(), metav1.StatusReasonInvalid}}
}

// messageOf is what a rule says when it is broken: what its messageExpression makes if that is one line of a fit length, its message, or itself.
func messageOf(v *admissionregistrationv1.Validation, said []plugin.EvaluationResult, i int) string {
	if i < len(said) && said[i].Error == nil && said[i].EvalResult != nil {
		if s, ok := said[i].EvalResult.Value().(string); ok {
			s = strings.TrimSpace(s)
			if s != "" && len(s) <= limits.MaxEvaluatedMessageExpressionSizeBytes && !strings.Contains(s, "\n") {
				return s
			}
		}
	}
	if s := strings.TrimSpace(v.Message); s != "" {
		return s
	}
	return "failed expression: " + strings.TrimSpace(v.Expression)
}

// Check compiles everything that a policy says, as its writer must hear it.
func Check(spec *admissionregistrationv1.ValidatingAdmissionPolicySpec, at *field.Path) field.ErrorList {
	c, err := plugin.NewCompositedCompiler(base())
	if err != nil {
		return field.ErrorList{field.InternalError(at, err)}
	}
	has := plugin.OptionalVariableDeclarations{HasParams: spec.ParamKind != nil, HasAuthorizer: true}
	plain := plugin.OptionalVariableDeclarations{HasParams: has.HasParams}
	var errs field.ErrorList
	for i, v := range spec.Variables {
		r := c.CompileAndStoreVariable(&text{name: v.Name, says: v.Expression, types: []*cel.Type{cel.AnyType, cel.DynType}}, has, environment.NewExpressions)
		errs = append(errs, wrong(r, at.Child("variables").Index(i).Child("expression"), v.Expression)...)
	}
	one := func(says string, at *field.Path, o plugin.OptionalVariableDeclarations, types ...*cel.Type) {
		if strings.TrimSpace(says) != "" { // said elsewhere
			errs = append(errs, wrong(c.CompileCELExpression(&text{says: says, types: types}, o, environment.NewExpressions), at, says)...)
		}
	}
	for i, m := range spec.MatchConditions {
		one(m.Expression, at.Child("matchConditions").Index(i).Child("expression"), has, cel.BoolType)
	}
	for i, v := range spec.Validations {
		at := at.Child("validations").Index(i)
		one(v.Expression, at.Child("expression"), has, cel.BoolType)
		one(v.MessageExpression, at.Child("messageExpression"), plain, cel.StringType)
	}
	for i, a := range spec.AuditAnnotations {
		one(a.ValueExpression, at.Child("auditAnnotations").Index(i).Child("valueExpression"), has, cel.StringType, cel.NullType)
	}
	return errs
}

// CheckConditions compiles the conditions of a webhook, as their writer must hear it.
func CheckConditions(all []admissionregistrationv1.MatchCondition, at *field.Path) field.ErrorList {
	c := plugin.NewCompiler(base())
	var errs field.ErrorList
	for i, m := range all {
		if strings.TrimSpace(m.Expression) == "" {
			continue
		}
		r := c.CompileCELExpression(&text{says: m.Expression, types: []*cel.Type{cel.BoolType}}, plugin.OptionalVariableDeclarations{HasAuthorizer: true}, environment.NewExpressions)
		errs = append(errs, wrong(r, at.Index(i).Child("expression"), m.Expression)...)
	}
	return errs
}

func wrong(r plugin.CompilationResult, at *field.Path, says string) field.ErrorList {
	if r.Error == nil {
		return nil
	}
	return field.ErrorList{field.Invalid(at, says, r.Error.Error())}
}

// Cache keeps what was compiled, by the UID of what it is of, until its revision changes. Safe for concurrent use.
type Cache[T any] struct {
	mu   sync.Mutex
	kept map[string]kept[T]
}

type kept[T any] struct {
	revision string
	what     T
}

// Get returns what was compiled of an object with a key, at its revision, or has it compiled. Live are the keys that there are: when too many others are kept, they go.
func (c *Cache[T]) Get(key, revision string, live []string, compile func() T) T {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k, ok := c.kept[key]; ok && k.revision == revision {
		return k.what
	}
	if c.kept == nil {
		c.kept = map[string]kept[T]{}
	}
	if len(c.kept) > 2*len(live)+16 {
		for old := range c.kept {
			if !slices.Contains(live, old) {
				delete(c.kept, old)
			}
		}
	}
	what := compile()
	c.kept[key] = kept[T]{revision, what}
	return what
}

// ErrNoParams is that a binding demands parameters that are not there.
var ErrNoParams = errors.New("no params found for policy binding with `Deny` parameterNotFoundAction")
