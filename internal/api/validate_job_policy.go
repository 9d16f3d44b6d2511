package api

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// chosenFrom is oneOf where a missing value is told what it may be.
func chosenFrom[T ~string](v T, at *field.Path, supported ...T) field.ErrorList {
	if v == "" {
		return field.ErrorList{field.Required(at, fmt.Sprintf("valid values: %q", supported))}
	}
	return oneOf(v, at, supported...)
}

func validatePodFailurePolicy(s *batchv1.JobSpec, at *field.Path) field.ErrorList {
	if s.PodFailurePolicy == nil {
		return nil
	}
	var errs field.ErrorList
	at = at.Child("rules")
	if n := len(s.PodFailurePolicy.Rules); n > maxPolicyRules {
		errs = append(errs, field.TooMany(at, n, maxPolicyRules))
	}
	for i := range s.PodFailurePolicy.Rules {
		errs = append(errs, validateFailureRule(s, &s.PodFailurePolicy.Rules[i], at.Index(i))...)
	}
	return errs
}

func validateFailureRule(s *batchv1.JobSpec, r *batchv1.PodFailurePolicyRule, at *field.Path) field.ErrorList {
	errs := chosenFrom(r.Action, at.Child("action"), batchv1.PodFailurePolicyActionCount, batchv1.PodFailurePolicyActionFailIndex,
		batchv1.PodFailurePolicyActionFailJob, batchv1.PodFailurePolicyActionIgnore)
	if r.Action == batchv1.PodFailurePolicyActionFailIndex && s.BackoffLimitPerIndex == nil {
		errs = append(errs, field.Invalid(at.Child("action"), r.Action, "requires the backoffLimitPerIndex to be set"))
	}
	if r.OnExitCodes != nil {
		errs = append(errs, validateExitCodes(s, r.OnExitCodes, at.Child("onExitCodes"))...)
	}
	conditions := at.Child("onPodConditions")
	if n := len(r.OnPodConditions); n > maxPolicyRules {
		errs = append(errs, field.TooMany(conditions, n, maxPolicyRules))
	}
	for i, c := range r.OnPodConditions {
		errs = append(errs, isQualifiedName(string(c.Type), conditions.Index(i).Child("type"))...)
		errs = append(errs, chosenFrom(c.Status, conditions.Index(i).Child("status"), corev1.ConditionFalse, corev1.ConditionTrue, corev1.ConditionUnknown)...)
	}
	switch codes := r.OnExitCodes != nil; {
	case codes && len(r.OnPodConditions) > 0:
		errs = append(errs, field.Invalid(at, field.OmitValueType{}, "specifying both OnExitCodes and OnPodConditions is not supported"))
	case !codes && len(r.OnPodConditions) == 0:
		errs = append(errs, field.Invalid(at, field.OmitValueType{}, "specifying one of OnExitCodes and OnPodConditions is required"))
	}
	return errs
}

func validateExitCodes(s *batchv1.JobSpec, c *batchv1.PodFailurePolicyOnExitCodesRequirement, at *field.Path) field.ErrorList {
	errs := chosenFrom(c.Operator, at.Child("operator"), batchv1.PodFailurePolicyOnExitCodesOpIn, batchv1.PodFailurePolicyOnExitCodesOpNotIn)
	if c.ContainerName != nil {
		isIt := func(container corev1.Container) bool { return container.Name == *c.ContainerName }
		if !slices.ContainsFunc(s.Template.Spec.Containers, isIt) && !slices.ContainsFunc(s.Template.Spec.InitContainers, isIt) {
			errs = append(errs, field.Invalid(at.Child("containerName"), *c.ContainerName, "must be one of the container or initContainer names in the pod template"))
		}
	}
	at = at.Child("values")
	switch n := len(c.Values); {
	case n == 0:
		errs = append(errs, field.Invalid(at, c.Values, "at least one value is required"))
	case n > maxExitCodes:
		errs = append(errs, field.TooMany(at, n, maxExitCodes))
	}
	known := seen[int32]{}
	for i, code := range c.Values {
		if c.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn && code == 0 {
			errs = append(errs, field.Invalid(at.Index(i), code, "must not be 0 for the In operator"))
		}
		if known.add(code) {
			errs = append(errs, field.Duplicate(at.Index(i), code))
		}
	}
	if !slices.IsSorted(c.Values) {
		errs = append(errs, field.Invalid(at, c.Values, "must be ordered"))
	}
	return errs
}

func validateSuccessPolicy(s *batchv1.JobSpec, at *field.Path) field.ErrorList {
	if s.SuccessPolicy == nil {
		return nil
	}
	if !isIndexed(s) {
		return field.ErrorList{field.Invalid(at, *s.SuccessPolicy, "requires indexed completion mode")}
	}
	var errs field.ErrorList
	at = at.Child("rules")
	switch n := len(s.SuccessPolicy.Rules); {
	case n == 0:
		errs = append(errs, field.Required(at, "at least one rules must be specified when the successPolicy is specified"))
	case n > maxPolicyRules:
		errs = append(errs, field.TooMany(at, n, maxPolicyRules))
	}
	for i := range s.SuccessPolicy.Rules {
		errs = append(errs, validateSuccessRule(orZero(s.Completions), &s.SuccessPolicy.Rules[i], at.Index(i))...)
	}
	return errs
}

func validateSuccessRule(completions int32, r *batchv1.SuccessPolicyRule, at *field.Path) field.ErrorList {
	if r.SucceededCount == nil && r.SucceededIndexes == nil {
		return field.ErrorList{field.Required(at, "at least one of succeededCount or succeededIndexes must be specified")}
	}
	var errs field.ErrorList
	var named int32
	if r.SucceededIndexes != nil {
		at := at.Child("succeededIndexes")
		if len(*r.SucceededIndexes) > maxSucceededIndexes {
			errs = append(errs, field.TooLong(at, "", maxSucceededIndexes))
		}
		var err error
		if named, err = countIndexes(*r.SucceededIndexes, completions); err != nil {
			errs = append(errs, field.Invalid(at, *r.SucceededIndexes, "error parsing succeededIndexes: "+err.Error()))
		}
	}
	if r.SucceededCount == nil {
		return errs
	}
	at, n := at.Child("succeededCount"), *r.SucceededCount
	errs = append(errs, notNegative(int64(n), at)...)
	if n > completions {
		errs = append(errs, field.Invalid(at, n, fmt.Sprintf("must be less than or equal to %d (the number of specified completions)", completions)))
	}
	if r.SucceededIndexes != nil && n > named {
		errs = append(errs, field.Invalid(at, n, fmt.Sprintf("must be less than or equal to %d (the number of indexes in the specified succeededIndexes field)", named)))
	}
	return errs
}

// span is a range of indexes, both ends included.
type span struct{ first, last int32 }

// countIndexes counts the indexes in text like "1,3-5": rising, and all below completions.
func countIndexes(text string, completions int32) (int32, error) {
	if text == "" {
		return 0, nil
	}
	var total int32
	previous := span{-1, -1}
	for part := range strings.SplitSeq(text, ",") {
		s, err := parseSpan(part, completions)
		if err != nil {
			return 0, err
		}
		if previous.last >= 0 && previous.last >= s.first {
			return 0, fmt.Errorf("non-increasing order, previous: %d, current: %d", previous.last, s.first)
		}
		total += s.last - s.first + 1
		previous = s
	}
	return total, nil
}

func parseSpan(text string, completions int32) (span, error) {
	ends := strings.Split(text, "-")
	if len(ends) > 2 {
		return span{}, fmt.Errorf("the fragment %q violates the requirement that an index interval can have at most two parts separated by '-'", text)
	}
	var s span
	for i, to := range []*int32{&s.first, &s.last} {
		n, err := strconv.Atoi(ends[min(i, len(ends)-1)])
		if err != nil {
			return span{}, fmt.Errorf("cannot convert string to integer for index: %q", ends[min(i, len(ends)-1)])
		}
		if n >= int(completions) {
			return span{}, fmt.Errorf("too large index: %q", ends[min(i, len(ends)-1)])
		}
		*to = int32(n)
	}
	if len(ends) == 2 && s.first >= s.last {
		return span{}, fmt.Errorf("non-increasing order, previous: %d, current: %d", s.first, s.last)
	}
	return s, nil
}

// disjointIndexes returns an error when an index is in both texts. Parts that are no indexes are passed over: they are
// reported elsewhere.
func disjointIndexes(completed, failed string, completions int32) error {
	parse := func(text string) []span {
		var spans []span
		for part := range strings.SplitSeq(text, ",") {
			if s, err := parseSpan(part, completions); err == nil {
				spans = append(spans, s)
			}
		}
		return spans
	}
	c, f := parse(completed), parse(failed)
	for len(c) > 0 && len(f) > 0 {
		switch {
		case c[0].first <= f[0].last && f[0].first <= c[0].last:
			return fmt.Errorf("failedIndexes and completedIndexes overlap at index: %d", max(c[0].first, f[0].first))
		case c[0].first <= f[0].first:
			c = c[1:]
		default:
			f = f[1:]
		}
	}
	return nil
}
