package api

import (
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// jobState is a job's status with what its conditions say, read once.
type jobState struct {
	*batchv1.JobStatus
	spec             *batchv1.JobSpec
	complete, failed bool
	ending           bool // FailureTarget: failed as soon as the pods are gone
	met              bool // SuccessCriteriaMet: complete as soon as the pods are gone
}

func stateOf(j *batchv1.Job) jobState {
	is := func(t batchv1.JobConditionType) bool { return hasJobCondition(j, t, corev1.ConditionTrue) }
	return jobState{
		JobStatus: &j.Status, spec: &j.Spec,
		complete: is(batchv1.JobComplete), failed: is(batchv1.JobFailed), ending: is(batchv1.JobFailureTarget), met: is(batchv1.JobSuccessCriteriaMet),
	}
}

func (s *jobState) finished() bool { return s.complete || s.failed }

// validateJobStatus checks most rules only when a field they speak of changes: after a change of the spec a stored status
// may break one for a moment, and whatever else the status reports meanwhile must get through.
func validateJobStatus(updated, old *batchv1.Job) field.ErrorList {
	at := field.NewPath("status")
	now, was := stateOf(updated), stateOf(old)
	errs := validateJobCounts(&now, &was, at)
	errs = append(errs, validateJobConditions(&now, &was, at.Child("conditions"))...)
	resumed := hasJobCondition(old, batchv1.JobSuspended, corev1.ConditionTrue) && hasJobCondition(updated, batchv1.JobSuspended, corev1.ConditionFalse)
	errs = append(errs, validateJobTimes(&now, &was, resumed, at)...)
	errs = append(errs, validateJobIndexes(&now, &was, at)...)
	return append(errs, validateFinishedJob(&now, &was, at)...)
}

func validateJobCounts(now, was *jobState, at *field.Path) field.ErrorList {
	c := counts{at: at}
	c.notNegative(int64(now.Active), "active")
	c.notNegative(int64(now.Succeeded), "succeeded")
	c.notNegative(int64(now.Failed), "failed")
	c.notNegative(int64(orZero(now.Ready)), "ready")
	c.notNegative(int64(orZero(now.Terminating)), "terminating")
	errs := c.errs
	if u := now.UncountedTerminatedPods; u != nil {
		known, at := seen[types.UID]{}, at.Child("uncountedTerminatedPods")
		uids := func(list []types.UID, at *field.Path) {
			for i, uid := range list {
				if uid == "" {
					errs = append(errs, field.Invalid(at.Index(i), uid, "must not be empty"))
				} else if known.add(uid) {
					errs = append(errs, field.Duplicate(at.Index(i), uid))
				}
			}
		}
		uids(u.Succeeded, at.Child("succeeded"))
		uids(u.Failed, at.Child("failed"))
	}
	if now.Failed < was.Failed {
		errs = append(errs, field.Invalid(at.Child("failed"), now.Failed, "cannot decrease the failed counter"))
	}
	// An indexed job that is as wide as long can become smaller, and forgets the indexes it lost.
	elastic := isIndexed(now.spec) && isSame(now.spec.Completions, now.spec.Parallelism)
	if now.Succeeded < was.Succeeded && !elastic {
		errs = append(errs, field.Invalid(at.Child("succeeded"), now.Succeeded, "cannot decrease the succeeded counter"))
	}
	if changed := !isSame(now.Ready, was.Ready) || now.Active != was.Active; changed && orZero(now.Ready) > now.Active {
		errs = append(errs, field.Invalid(at.Child("ready"), *now.Ready, "cannot set more ready pods than active"))
	}
	return errs
}

// validateJobConditions wants conditions that agree with one another and never take an end back.
func validateJobConditions(now, was *jobState, at *field.Path) field.ErrorList {
	complete, failed := now.complete != was.complete, now.failed != was.failed
	ending, met := now.ending != was.ending, now.met != was.met
	failedIndexes := !isSame(now.FailedIndexes, was.FailedIndexes)
	var errs field.ErrorList
	for _, rule := range []struct {
		broken bool
		text   string
	}{
		{(complete || failed) && now.complete && now.failed, "cannot set Complete=True and Failed=true conditions"},
		{(complete || ending) && now.complete && now.ending, "cannot set Complete=True and FailureTarget=true conditions"},
		{(failed || failedIndexes) && now.failed && !now.ending, "cannot set Failed=True condition without the FailureTarget=true condition"},
		{(complete || met) && now.complete && !now.met, "cannot set Complete=True condition without the SuccessCriteriaMet=true condition"},
		{now.met && now.failed, "cannot set SuccessCriteriaMet=True and Failed=true conditions"},
		{now.met && now.ending, "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions"},
		{now.spec.SuccessPolicy != nil && now.complete && !now.met, "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True"},
		{was.failed && !now.failed, "cannot disable the terminal Failed=True condition"},
		{was.complete && !now.complete, "cannot disable the terminal Complete=True condition"},
		{was.ending && !now.ending, "cannot disable the terminal FailureTarget=True condition"},
		{was.met && !now.met, "cannot disable the SuccessCriteriaMet=True condition"},
		{was.complete && !was.met && now.met, "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions"},
	} {
		if rule.broken {
			errs = append(errs, field.Invalid(at, field.OmitValueType{}, rule.text))
		}
	}
	return errs
}

func validateJobTimes(now, was *jobState, resumed bool, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	started, ended := !isSame(now.StartTime, was.StartTime), !isSame(now.CompletionTime, was.CompletionTime)
	start, end := at.Child("startTime"), at.Child("completionTime")
	if now.complete != was.complete || ended {
		switch {
		case now.CompletionTime != nil && !now.complete:
			errs = append(errs, field.Invalid(end, now.CompletionTime, "cannot set completionTime when there is no Complete=True condition"))
		case now.CompletionTime == nil && now.complete:
			errs = append(errs, field.Required(end, "completionTime is required for Complete jobs"))
		}
	}
	if (started || ended) && now.StartTime != nil && now.CompletionTime != nil && now.CompletionTime.Before(now.StartTime) {
		errs = append(errs, field.Invalid(end, now.CompletionTime, "must be equal to or after `startTime`"))
	}
	if ended && now.CompletionTime != nil && was.CompletionTime != nil {
		errs = append(errs, field.Invalid(end, now.CompletionTime, "field is immutable"))
	}
	if started && was.StartTime != nil && !isSet(now.spec.Suspend) && !resumed {
		errs = append(errs, field.Invalid(start, now.StartTime, "field is immutable for unsuspended job once set"))
	}
	// A suspended job that wants nothing ends without ever having begun.
	empty := isSet(now.spec.Suspend) && now.spec.Completions != nil && *now.spec.Completions == 0
	if (now.finished() != was.finished() || started) && !empty && now.StartTime == nil && now.finished() {
		errs = append(errs, field.Required(start, "startTime is required for finished job"))
	}
	return errs
}

func validateJobIndexes(now, was *jobState, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	completed, failed := now.CompletedIndexes != was.CompletedIndexes, !isSame(now.FailedIndexes, was.FailedIndexes)
	atCompleted, atFailed := at.Child("completedIndexes"), at.Child("failedIndexes")
	if n := now.spec.Completions; n != nil {
		if _, err := countIndexes(now.CompletedIndexes, *n); completed && err != nil {
			errs = append(errs, field.Invalid(atCompleted, now.CompletedIndexes, "error parsing completedIndexes: "+err.Error()))
		}
		if _, err := countIndexes(orZero(now.FailedIndexes), *n); failed && now.spec.BackoffLimitPerIndex != nil && err != nil {
			errs = append(errs, field.Invalid(atFailed, *now.FailedIndexes, "error parsing failedIndexes: "+err.Error()))
		}
		if err := disjointIndexes(now.CompletedIndexes, orZero(now.FailedIndexes), *n); (completed || failed) && err != nil {
			errs = append(errs, field.Invalid(atFailed, *now.FailedIndexes, err.Error()))
		}
	}
	if completed && now.CompletedIndexes != "" && !isIndexed(now.spec) {
		errs = append(errs, field.Invalid(atCompleted, now.CompletedIndexes, "cannot set non-empty completedIndexes when non-indexed completion mode"))
	}
	if failed && now.spec.BackoffLimitPerIndex == nil && now.FailedIndexes != nil {
		errs = append(errs, field.Invalid(atFailed, *now.FailedIndexes, "cannot set non-null failedIndexes when backoffLimitPerIndex is null"))
	}
	return errs
}

// validateFinishedJob wants a job that has ended to have no pods left, counted or not.
func validateFinishedJob(now, was *jobState, at *field.Path) field.ErrorList {
	if !now.finished() {
		return nil
	}
	var errs field.ErrorList
	just := !was.finished()
	if now.Active > 0 && (just || now.Active != was.Active) {
		errs = append(errs, field.Invalid(at.Child("active"), now.Active, "active>0 is invalid for finished job"))
	}
	if orZero(now.Terminating) > 0 && (just || !isSame(now.Terminating, was.Terminating)) {
		errs = append(errs, field.Invalid(at.Child("terminating"), *now.Terminating, "terminating>0 is invalid for finished job"))
	}
	u := now.UncountedTerminatedPods
	if u != nil && len(u.Failed)+len(u.Succeeded) > 0 && (just || !isSame(u, was.UncountedTerminatedPods)) {
		errs = append(errs, field.Invalid(at.Child("uncountedTerminatedPods"), u, "must be empty for finished job"))
	}
	return errs
}
