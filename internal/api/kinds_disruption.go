package api

import (
	"slices"
	"strconv"
	"strings"
	"time"

	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// PodDisruptionBudgets is the row of policy.
var PodDisruptionBudgets = row[policyv1.PodDisruptionBudget, policyv1.PodDisruptionBudgetList](policyv1.SchemeGroupVersion, "PodDisruptionBudget", "poddisruptionbudgets", "pdb").with(disruptionBudgetRow)

func disruptionBudgetRow(k *Kind) {
	k.Subresources = []Subresource{{Name: "status", Kind: "PodDisruptionBudget", Verbs: statusVerbs()}}
	k.ValidateName = pathSegment // all that Kubernetes ever wanted of it
	k.NeedsVersion = true
	k.PrepareCreate = on(func(b *policyv1.PodDisruptionBudget) {
		b.Status = policyv1.PodDisruptionBudgetStatus{}
		dropOldSelectorMark(b.Spec.Selector)
	})
	k.PrepareUpdate = pair(func(updated, old *policyv1.PodDisruptionBudget) {
		updated.Status = old.Status
		if !isSame(updated.Spec.Selector, old.Spec.Selector) {
			dropOldSelectorMark(updated.Spec.Selector)
		}
	})
	k.Validate = check(validateDisruptionBudget)
	k.ValidateUpdate = compare(func(updated, _ *policyv1.PodDisruptionBudget) field.ErrorList {
		return validateDisruptionBudget(updated)
	})
	k.ValidateStatus = compare(validateDisruptionBudgetStatus)
	k.CopyStatus = pair(func(to, from *policyv1.PodDisruptionBudget) { to.Status = *from.Status.DeepCopy() })
	k.Columns, k.Cells = disruptionBudgetColumns(), cells(disruptionBudgetCells)
	k.Generation = true
}

// dropOldSelectorMark removes the label by which v1beta1 said that an empty selector selects nothing, unless it stands
// alone, which still means that.
func dropOldSelectorMark(s *metav1.LabelSelector) {
	const mark = "pdb.kubernetes.io/deprecated-v1beta1-empty-selector-match"
	none := &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: mark, Operator: metav1.LabelSelectorOpExists}}}
	if s == nil || isSame(s, none) {
		return
	}
	s.MatchExpressions = slices.DeleteFunc(s.MatchExpressions, func(r metav1.LabelSelectorRequirement) bool { return r.Key == mark })
}

func validateDisruptionBudget(b *policyv1.PodDisruptionBudget) field.ErrorList {
	s, at := &b.Spec, field.NewPath("spec")
	var errs field.ErrorList
	if s.MinAvailable != nil && s.MaxUnavailable != nil {
		errs = append(errs, field.Invalid(at, s, "minAvailable and maxUnavailable cannot be both set"))
	}
	if s.MinAvailable != nil {
		errs = append(errs, isShare(*s.MinAvailable, at.Child("minAvailable"))...)
	}
	if s.MaxUnavailable != nil {
		errs = append(errs, isShare(*s.MaxUnavailable, at.Child("maxUnavailable"))...)
	}
	errs = append(errs, metavalidation.ValidateLabelSelector(s.Selector, metavalidation.LabelSelectorValidationOptions{}, at.Child("selector"))...)
	return append(errs, optionalOneOf(s.UnhealthyPodEvictionPolicy, at.Child("unhealthyPodEvictionPolicy"), policyv1.AlwaysAllow, policyv1.IfHealthyBudget)...)
}

// isShare wants a count of pods or a part of them, which is at most all.
func isShare(n intstr.IntOrString, at *field.Path) field.ErrorList {
	if n.Type == intstr.Int {
		return notNegative(int64(n.IntVal), at)
	}
	if messages := validation.IsValidPercent(n.StrVal); len(messages) > 0 {
		return each(at, n, messages)
	}
	if percent, _ := strconv.Atoi(strings.TrimSuffix(n.StrVal, "%")); percent > 100 {
		return field.ErrorList{field.Invalid(at, n, "must not be greater than 100%")}
	}
	return nil
}

func validateDisruptionBudgetStatus(updated, _ *policyv1.PodDisruptionBudget) field.ErrorList {
	s, at := &updated.Status, field.NewPath("status")
	errs := metavalidation.ValidateConditions(s.Conditions, at.Child("conditions"))
	errs = append(errs, notNegative(int64(s.DisruptionsAllowed), at.Child("disruptionsAllowed"))...)
	errs = append(errs, notNegative(int64(s.CurrentHealthy), at.Child("currentHealthy"))...)
	errs = append(errs, notNegative(int64(s.DesiredHealthy), at.Child("desiredHealthy"))...)
	return append(errs, notNegative(int64(s.ExpectedPods), at.Child("expectedPods"))...)
}

func disruptionBudgetColumns() []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{
		nameColumn(),
		column("Min Available", "The minimum number of pods that must be available."),
		column("Max Unavailable", "The maximum number of pods that may be unavailable."),
		number("Allowed Disruptions", "Calculated number of pods that may be disrupted at this time."),
		ageColumn(),
	}
}

func disruptionBudgetCells(b *policyv1.PodDisruptionBudget, now time.Time) []any {
	share := func(n *intstr.IntOrString) string {
		if n == nil {
			return "N/A"
		}
		return n.String()
	}
	return []any{b.Name, share(b.Spec.MinAvailable), share(b.Spec.MaxUnavailable), int64(b.Status.DisruptionsAllowed), since(b.CreationTimestamp, now)}
}
