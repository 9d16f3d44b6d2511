package api

import (
	"strings"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The rows of admission policies. They are kept, but their rules are not evaluated yet, which writers are told.
var (
	ValidatingAdmissionPolicies       = row[admissionregistrationv1.ValidatingAdmissionPolicy, admissionregistrationv1.ValidatingAdmissionPolicyList](admissionregistrationv1.SchemeGroupVersion, "ValidatingAdmissionPolicy", "validatingadmissionpolicies").with(admissionPolicyRow)
	ValidatingAdmissionPolicyBindings = row[admissionregistrationv1.ValidatingAdmissionPolicyBinding, admissionregistrationv1.ValidatingAdmissionPolicyBindingList](admissionregistrationv1.SchemeGroupVersion, "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings").with(admissionBindingRow)
)

func admissionPolicyRow(k *Kind) {
	k.Namespaced, k.Generation = false, true
	k.Categories = []string{"api-extensions"}
	k.Subresources = []Subresource{{Name: "status", Kind: "ValidatingAdmissionPolicy", Verbs: statusVerbs()}}
	k.Default = on(func(p *admissionregistrationv1.ValidatingAdmissionPolicy) {
		unset(&p.Spec.FailurePolicy, admissionregistrationv1.Fail)
		defaultMatch(p.Spec.MatchConstraints)
	})
	k.PrepareCreate = on(func(p *admissionregistrationv1.ValidatingAdmissionPolicy) {
		p.Generation, p.Status = 1, admissionregistrationv1.ValidatingAdmissionPolicyStatus{}
	})
	k.PrepareUpdate = pair(func(updated, old *admissionregistrationv1.ValidatingAdmissionPolicy) { updated.Status = old.Status })
	k.CopyStatus = pair(func(to, from *admissionregistrationv1.ValidatingAdmissionPolicy) { to.Status = *from.Status.DeepCopy() })
	k.Validate = check(validateAdmissionPolicy)
	k.ValidateUpdate = compare(func(updated, _ *admissionregistrationv1.ValidatingAdmissionPolicy) field.ErrorList {
		return validateAdmissionPolicy(updated)
	})
	k.ValidateStatus = anyStatus
	k.Columns, k.Cells = admissionPolicyColumns(), cells(admissionPolicyCells)
}

func admissionBindingRow(k *Kind) {
	k.Namespaced, k.Generation = false, true
	k.Categories = []string{"api-extensions"}
	k.Default = on(func(b *admissionregistrationv1.ValidatingAdmissionPolicyBinding) { defaultMatch(b.Spec.MatchResources) })
	k.PrepareCreate = on(func(b *admissionregistrationv1.ValidatingAdmissionPolicyBinding) { b.Generation = 1 })
	k.Validate = check(validateAdmissionBinding)
	k.ValidateUpdate = compare(func(updated, _ *admissionregistrationv1.ValidatingAdmissionPolicyBinding) field.ErrorList {
		return validateAdmissionBinding(updated)
	})
	k.Columns, k.Cells = admissionBindingColumns(), cells(admissionBindingCells)
}

func defaultMatch(m *admissionregistrationv1.MatchResources) {
	if m == nil {
		return
	}
	unset(&m.MatchPolicy, admissionregistrationv1.Equivalent)
	unset(&m.NamespaceSelector, metav1.LabelSelector{})
	unset(&m.ObjectSelector, metav1.LabelSelector{})
	for _, rules := range [][]admissionregistrationv1.NamedRuleWithOperations{m.ResourceRules, m.ExcludeResourceRules} {
		for i := range rules {
			unset(&rules[i].Scope, admissionregistrationv1.AllScopes)
		}
	}
}

func admissionPolicyColumns() []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{
		nameColumn(), number("Validations", "Validations indicates the number of validation rules defined in this configuration"),
		column("ParamKind", "ParamKind specifies the kind of resources used to parameterize this policy"), ageColumn(),
	}
}

func admissionPolicyCells(p *admissionregistrationv1.ValidatingAdmissionPolicy, now time.Time) []any {
	kind := "<unset>"
	if k := p.Spec.ParamKind; k != nil {
		kind = strings.Trim(k.APIVersion+"/"+k.Kind, "/")
	}
	return []any{p.Name, int64(len(p.Spec.Validations)), kind, since(p.CreationTimestamp, now)}
}

func admissionBindingColumns() []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{
		nameColumn(), column("PolicyName", "PolicyName indicates the policy definition which the policy binding binded to"),
		column("ParamRef", "ParamRef indicates the param resource which sets the configration param"), ageColumn(),
	}
}

func admissionBindingCells(b *admissionregistrationv1.ValidatingAdmissionPolicyBinding, now time.Time) []any {
	ref := "<unset>"
	if r := b.Spec.ParamRef; r != nil {
		ref = r.Name
		if r.Namespace != "" {
			ref = r.Namespace + "/" + r.Name
		}
		if r.Selector != nil {
			ref = metav1.FormatLabelSelector(r.Selector)
		}
	}
	return []any{b.Name, b.Spec.PolicyName, ref, since(b.CreationTimestamp, now)}
}
