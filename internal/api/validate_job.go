package api

import (
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Limits that keep the lists of indexes in a job's status short.
const (
	maxIndexed          = 100_000 // pods at once, failed indexes
	manyCompletions     = 100_000 // from here on the next limit
	maxOfMany           = 10_000
	maxManagedBy        = 63
	maxPolicyRules      = 20 // of either policy, and conditions in a rule
	maxExitCodes        = 255
	maxSucceededIndexes = 64 << 10
)

func validateJob(j *batchv1.Job) field.ErrorList {
	errs := validateGeneratedSelector(j)
	errs = append(errs, validateSelectingJobSpec(&j.Spec, field.NewPath("spec"))...)
	return append(errs, validatePodNamesOfJob(j)...)
}

// validateGeneratedSelector wants the labels that prepareNewJob gave.
func validateGeneratedSelector(j *batchv1.Job) field.ErrorList {
	if isSet(j.Spec.ManualSelector) || j.Spec.Selector == nil {
		return nil
	}
	var errs field.ErrorList
	if j.UID == "" {
		errs = append(errs, field.Required(field.NewPath("metadata", "uid"), ""))
	}
	generated := labels.Set{}
	has := func(name, value string) {
		generated[name] = value
		at := field.NewPath("spec", "template", "metadata", "labels").Key(name)
		if got, ok := j.Spec.Template.Labels[name]; !ok {
			errs = append(errs, field.Required(at, "must be '"+value+"'"))
		} else if got != value {
			errs = append(errs, field.Invalid(at, j.Spec.Template.Labels, "must be '"+value+"'"))
		}
	}
	has(oldControllerUIDLabel, string(j.UID))
	has(oldJobNameLabel, j.Name)
	has(batchv1.ControllerUidLabel, string(j.UID))
	has(batchv1.JobNameLabel, j.Name)
	if selector, err := metav1.LabelSelectorAsSelector(j.Spec.Selector); err == nil && !selector.Matches(generated) {
		errs = append(errs, field.Invalid(field.NewPath("spec", "selector"), j.Spec.Selector, "`selector` not auto-generated"))
	}
	return errs
}

// validatePodNamesOfJob wants a name that stays a host name with the last index at its end.
func validatePodNamesOfJob(j *batchv1.Job) field.ErrorList {
	if !isIndexed(&j.Spec) || orZero(j.Spec.Completions) <= 0 {
		return nil
	}
	longest := fmt.Sprintf("%s-%d", j.Name, *j.Spec.Completions-1)
	if len(validation.IsDNS1123Label(longest)) == 0 {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("metadata", "name"), j.Name, "will not able to create pod with invalid DNS label: "+longest)}
}

func isIndexed(s *batchv1.JobSpec) bool {
	return s.CompletionMode != nil && *s.CompletionMode == batchv1.IndexedCompletion
}

// validateSelectingJobSpec checks a job's spec; one in a template has no selector yet.
func validateSelectingJobSpec(s *batchv1.JobSpec, at *field.Path) field.ErrorList {
	errs := validateJobSpec(s, at)
	if s.Selector == nil {
		errs = append(errs, field.Required(at.Child("selector"), ""))
	} else {
		errs = append(errs, metavalidation.ValidateLabelSelector(s.Selector, metavalidation.LabelSelectorValidationOptions{}, at.Child("selector"))...)
	}
	if selector, err := metav1.LabelSelectorAsSelector(s.Selector); err == nil {
		errs = append(errs, validateSelected(selector, s.Template.Labels, at.Child("template"))...)
	}
	return errs
}

func validateJobSpec(s *batchv1.JobSpec, at *field.Path) field.ErrorList {
	errs := optionalNotNegative(s.Parallelism, at.Child("parallelism"))
	errs = append(errs, optionalNotNegative(s.Completions, at.Child("completions"))...)
	errs = append(errs, optionalNotNegative(s.ActiveDeadlineSeconds, at.Child("activeDeadlineSeconds"))...)
	errs = append(errs, optionalNotNegative(s.BackoffLimit, at.Child("backoffLimit"))...)
	errs = append(errs, optionalNotNegative(s.TTLSecondsAfterFinished, at.Child("ttlSecondsAfterFinished"))...)
	errs = append(errs, optionalNotNegative(s.BackoffLimitPerIndex, at.Child("backoffLimitPerIndex"))...)
	errs = append(errs, optionalNotNegative(s.MaxFailedIndexes, at.Child("maxFailedIndexes"))...)
	if s.MaxFailedIndexes != nil && s.BackoffLimitPerIndex == nil {
		errs = append(errs, field.Required(at.Child("backoffLimitPerIndex"), "when maxFailedIndexes is specified"))
	}
	if s.ManagedBy != nil {
		at := at.Child("managedBy")
		errs = append(errs, validation.IsDomainPrefixedPath(at, *s.ManagedBy)...)
		if len(*s.ManagedBy) > maxManagedBy {
			errs = append(errs, field.TooLong(at, "", maxManagedBy))
		}
	}
	errs = append(errs, optionalOneOf(s.CompletionMode, at.Child("completionMode"), batchv1.NonIndexedCompletion, batchv1.IndexedCompletion)...)
	errs = append(errs, validateIndexed(s, at)...)
	errs = append(errs, validatePodFailurePolicy(s, at.Child("podFailurePolicy"))...)
	errs = append(errs, validateSuccessPolicy(s, at.Child("successPolicy"))...)
	// A policy on failures has to see each pod to its end before another is made.
	replacements := []batchv1.PodReplacementPolicy{batchv1.Failed, batchv1.TerminatingOrFailed}
	if s.PodFailurePolicy != nil {
		replacements = replacements[:1]
	}
	errs = append(errs, optionalOneOf(s.PodReplacementPolicy, at.Child("podReplacementPolicy"), replacements...)...)
	errs = append(errs, validatePodTemplate(&s.Template, at.Child("template"))...)
	return append(errs, validateEnding(s, at.Child("template", "spec", "restartPolicy"))...)
}

// validateEnding wants pods that end. Always is what a client that said nothing gets, so it is told what it lacks.
func validateEnding(s *batchv1.JobSpec, at *field.Path) field.ErrorList {
	never, onFailure := corev1.RestartPolicyNever, corev1.RestartPolicyOnFailure
	switch p := s.Template.Spec.RestartPolicy; {
	case p == corev1.RestartPolicyAlways || p == "":
		return field.ErrorList{field.Required(at, fmt.Sprintf("valid values: %q, %q", onFailure, never))}
	case p != onFailure && p != never:
		return field.ErrorList{field.NotSupported(at, p, []corev1.RestartPolicy{onFailure, never})}
	case p != never && s.PodFailurePolicy != nil:
		return field.ErrorList{field.Invalid(at, p, fmt.Sprintf("only %q is supported when podFailurePolicy is specified", never))}
	}
	return nil
}

// validateIndexed checks the fields that have to do with indexes, which need the mode that gives pods one.
func validateIndexed(s *batchv1.JobSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	invalid := func(value int32, name, text string) {
		errs = append(errs, field.Invalid(at.Child(name), value, text))
	}
	if !isIndexed(s) {
		if s.CompletionMode != nil && *s.CompletionMode != batchv1.NonIndexedCompletion {
			return nil
		}
		if s.BackoffLimitPerIndex != nil {
			invalid(*s.BackoffLimitPerIndex, "backoffLimitPerIndex", "requires indexed completion mode")
		}
		if s.MaxFailedIndexes != nil {
			invalid(*s.MaxFailedIndexes, "maxFailedIndexes", "requires indexed completion mode")
		}
		return errs
	}
	parallelism, failed := orZero(s.Parallelism), orZero(s.MaxFailedIndexes)
	if parallelism > maxIndexed {
		invalid(parallelism, "parallelism", fmt.Sprintf("must be less than or equal to %d when completion mode is Indexed", maxIndexed))
	}
	if failed > maxIndexed {
		invalid(failed, "maxFailedIndexes", fmt.Sprintf("must be less than or equal to %d", maxIndexed))
	}
	if s.Completions == nil {
		return append(errs, field.Required(at.Child("completions"), "when completion mode is Indexed"))
	}
	if s.MaxFailedIndexes != nil && failed > *s.Completions {
		invalid(failed, "maxFailedIndexes", "must be less than or equal to completions")
	}
	if *s.Completions <= manyCompletions || s.BackoffLimitPerIndex == nil {
		return errs
	}
	if s.MaxFailedIndexes == nil {
		errs = append(errs, field.Required(at.Child("maxFailedIndexes"), fmt.Sprintf("must be specified when completions is above %d", manyCompletions)))
	}
	text := fmt.Sprintf("must be less than or equal to %d when completions are above %d and used with backoff limit per index", maxOfMany, manyCompletions)
	if parallelism > maxOfMany {
		invalid(parallelism, "parallelism", text)
	}
	if failed > maxOfMany {
		invalid(failed, "maxFailedIndexes", text)
	}
	return errs
}
