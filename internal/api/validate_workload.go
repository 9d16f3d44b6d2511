package api

import (
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The functions here are the words in which the kinds that make pods from a template are validated.

// validateOwnSelector wants a selector that chooses something. What is what its errors call the kind; problem is how the
// kind puts it that a selector is none.
func validateOwnSelector(s *metav1.LabelSelector, at *field.Path, what, problem string) (labels.Selector, field.ErrorList) {
	var errs field.ErrorList
	if s == nil {
		errs = append(errs, field.Required(at, ""))
	} else {
		errs = append(errs, metavalidation.ValidateLabelSelector(s, metavalidation.LabelSelectorValidationOptions{}, at)...)
		if len(s.MatchLabels)+len(s.MatchExpressions) == 0 {
			errs = append(errs, field.Invalid(at, s, "empty selector is invalid for "+what))
		}
	}
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return nil, append(errs, field.Invalid(at, s, problem))
	}
	return selector, errs
}

func validateSelected(selector labels.Selector, template map[string]string, at *field.Path) field.ErrorList {
	if selector.Matches(labels.Set(template)) {
		return nil
	}
	return field.ErrorList{field.Invalid(at.Child("metadata", "labels"), template, "`selector` does not match template `labels`")}
}

// validateLasting wants pods that are started again for ever: those that end would be made anew without end.
func validateLasting(s *corev1.PodSpec, at *field.Path, kind string) field.ErrorList {
	var errs field.ErrorList
	if s.RestartPolicy != corev1.RestartPolicyAlways {
		errs = append(errs, field.NotSupported(at.Child("restartPolicy"), s.RestartPolicy, []corev1.RestartPolicy{corev1.RestartPolicyAlways}))
	}
	if s.ActiveDeadlineSeconds != nil {
		errs = append(errs, field.Forbidden(at.Child("activeDeadlineSeconds"), "activeDeadlineSeconds in "+kind+" is not Supported"))
	}
	return errs
}

// optionalNotNegative is notNegative for a pointer that may be nil.
func optionalNotNegative[T int32 | int64](n *T, at *field.Path) field.ErrorList {
	if n == nil {
		return nil
	}
	return notNegative(int64(*n), at)
}

// isCountOrShare wants a number of pods or a percentage of them.
func isCountOrShare(v intstr.IntOrString, at *field.Path) field.ErrorList {
	if v.Type == intstr.String {
		return each(at, v, validation.IsValidPercent(v.StrVal))
	}
	return notNegative(int64(v.IntVal), at)
}

// isAtMostAll refuses a share of more than all pods.
func isAtMostAll(v intstr.IntOrString, at *field.Path) field.ErrorList {
	if v.Type == intstr.String && len(validation.IsValidPercent(v.StrVal)) == 0 && countOrShare(v) > 100 {
		return field.ErrorList{field.Invalid(at, v, "must not be greater than 100%")}
	}
	return nil
}

// countOrShare is the number in v, of pods or of percent; zero when there is none.
func countOrShare(v intstr.IntOrString) int {
	if v.Type == intstr.Int {
		return int(v.IntVal)
	}
	n, err := strconv.Atoi(strings.TrimSuffix(v.StrVal, "%"))
	if err != nil {
		return 0
	}
	return n
}

// orZero reads what a defaulted field may still lack.
func orZero[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

// counts finds counters of a status that are negative or more than they can be.
type counts struct {
	at   *field.Path
	errs field.ErrorList
}

func (c *counts) notNegative(n int64, name string) {
	c.errs = append(c.errs, notNegative(n, c.at.Child(name))...)
}

func (c *counts) atMost(n, most int32, name, whose string) {
	if n > most {
		c.errs = append(c.errs, field.Invalid(c.at.Child(name), n, "cannot be greater than "+whose))
	}
}

// notDecremented wants a collision count that never goes back, lest a name be tried twice.
func (c *counts) notDecremented(n, old *int32, name string) {
	if old != nil && (n == nil || *n < *old) {
		c.errs = append(c.errs, field.Invalid(c.at.Child(name), orZero(n), "cannot be decremented"))
	}
}
