package api

import (
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// conditions are true, except those after a "-", which are false.
func conditions(types ...batchv1.JobConditionType) []batchv1.JobCondition {
	var list []batchv1.JobCondition
	for _, t := range types {
		c := batchv1.JobCondition{Type: t, Status: corev1.ConditionTrue}
		if t[0] == '-' {
			c.Type, c.Status = t[1:], corev1.ConditionFalse
		}
		list = append(list, c)
	}
	return list
}

func TestStatusOfJobs(t *testing.T) {
	at := func(minute int) *metav1.Time { return new(metav1.Unix(int64(minute)*60, 0)) }
	running := func(j *batchv1.Job) { j.Status.StartTime, j.Status.Active = at(1), 1 }
	complete := func(j *batchv1.Job) {
		j.Status = batchv1.JobStatus{StartTime: at(1), CompletionTime: at(2), Succeeded: 1, Conditions: conditions("SuccessCriteriaMet", "Complete")}
	}
	failed := func(j *batchv1.Job) {
		j.Status = batchv1.JobStatus{StartTime: at(1), Failed: 1, Conditions: conditions("FailureTarget", "Failed")}
	}
	const c = "status.conditions: Invalid value: "
	checkStatuses(t, Jobs, goodJob, []change[*batchv1.Job]{
		{rule: "it starts", do: running},
		{rule: "it is complete", was: running, do: complete},
		{rule: "it fails", was: running, do: failed},
		{
			rule: "numbers from 0 on", do: func(j *batchv1.Job) {
				j.Status = batchv1.JobStatus{Active: -1, Succeeded: -1, Failed: -1, Ready: new(int32(-1)), Terminating: new(int32(-1))}
			},
			want: []string{
				"status.active" + negative, "status.succeeded" + negative, "status.failed" + negative, "status.ready" + negative, "status.terminating" + negative,
				"status.failed: Invalid value: cannot decrease the failed counter", "status.succeeded: Invalid value: cannot decrease the succeeded counter",
			},
		},
		{
			rule: "no more ready than there are", do: func(j *batchv1.Job) { j.Status.Ready = new(int32(1)) },
			want: []string{"status.ready: Invalid value: cannot set more ready pods than active"},
		},
		{
			rule: "pods are counted once", do: func(j *batchv1.Job) {
				j.Status.UncountedTerminatedPods = &batchv1.UncountedTerminatedPods{Succeeded: []types.UID{"a", ""}, Failed: []types.UID{"a"}}
			},
			want: []string{
				"status.uncountedTerminatedPods.succeeded[1]: Invalid value: must not be empty", "status.uncountedTerminatedPods.failed[0]: Duplicate value",
			},
		},
		{
			rule: "what is counted stays counted", was: func(j *batchv1.Job) { j.Status.Failed, j.Status.Succeeded = 2, 2 },
			do: func(j *batchv1.Job) { j.Status.Failed, j.Status.Succeeded = 1, 1 },
			want: []string{
				"status.failed: Invalid value: cannot decrease the failed counter", "status.succeeded: Invalid value: cannot decrease the succeeded counter",
			},
		},
		{
			rule: "complete is not failed", was: running, do: func(j *batchv1.Job) {
				complete(j)
				j.Status.Conditions = conditions("Complete", "Failed", "FailureTarget")
			},
			want: []string{
				c + "cannot set Complete=True and Failed=true conditions", c + "cannot set Complete=True and FailureTarget=true conditions",
				c + "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
			},
		},
		{
			rule: "failing is announced", was: running, do: func(j *batchv1.Job) { failed(j); j.Status.Conditions = conditions("Failed") },
			want: []string{c + "cannot set Failed=True condition without the FailureTarget=true condition"},
		},
		{
			rule: "succeeding is not failing", was: running, do: func(j *batchv1.Job) { j.Status.Conditions = conditions("SuccessCriteriaMet", "FailureTarget") },
			want: []string{c + "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions"},
		},
		{
			rule: "an end is an end", was: failed, do: func(j *batchv1.Job) { j.Status.Conditions = nil },
			want: []string{c + "cannot disable the terminal Failed=True condition", c + "cannot disable the terminal FailureTarget=True condition"},
		},
		{
			rule: "success is success", was: complete, do: func(j *batchv1.Job) { j.Status.Conditions, j.Status.CompletionTime = nil, nil },
			want: []string{c + "cannot disable the terminal Complete=True condition", c + "cannot disable the SuccessCriteriaMet=True condition"},
		},
		{
			rule: "when it was complete is known", was: running, do: func(j *batchv1.Job) { complete(j); j.Status.CompletionTime = nil },
			want: []string{"status.completionTime: Required value: completionTime is required for Complete jobs"},
		},
		{
			rule: "only what is complete has an end", was: running, do: func(j *batchv1.Job) { j.Status.CompletionTime = at(2) },
			want: []string{"status.completionTime: Invalid value: cannot set completionTime when there is no Complete=True condition"},
		},
		{
			rule: "the end is after the beginning", was: running, do: func(j *batchv1.Job) { complete(j); j.Status.CompletionTime = at(0) },
			want: []string{"status.completionTime: Invalid value: must be equal to or after `startTime`"},
		},
		{
			rule: "the end does not move", was: complete, do: func(j *batchv1.Job) { j.Status.CompletionTime = at(3) },
			want: []string{"status.completionTime" + immutable},
		},
		{
			rule: "the beginning does not move", was: running, do: func(j *batchv1.Job) { j.Status.StartTime = at(2) },
			want: []string{"status.startTime: Invalid value: field is immutable for unsuspended job once set"},
		},
		{
			rule: "the beginning moves while it rests", was: func(j *batchv1.Job) { running(j); j.Spec.Suspend = new(true) },
			do: func(j *batchv1.Job) { j.Status.StartTime = nil },
		},
		{
			rule: "the beginning moves when it goes on", was: func(j *batchv1.Job) { running(j); j.Status.Conditions = conditions("Suspended") },
			do: func(j *batchv1.Job) { j.Status.StartTime, j.Status.Conditions = at(3), conditions("-Suspended") },
		},
		{
			rule: "what ended began", do: func(j *batchv1.Job) { failed(j); j.Status.StartTime = nil },
			want: []string{"status.startTime: Required value: startTime is required for finished job"},
		},
		{
			rule: "unless there was nothing to do", was: func(j *batchv1.Job) { j.Spec.Suspend, j.Spec.Completions = new(true), new(int32(0)) },
			do: func(j *batchv1.Job) { complete(j); j.Status.StartTime = nil },
		},
		{
			rule: "what ended has no pods", was: running, do: func(j *batchv1.Job) {
				failed(j)
				j.Status.Active, j.Status.Terminating = 1, new(int32(1))
				j.Status.UncountedTerminatedPods = &batchv1.UncountedTerminatedPods{Failed: []types.UID{"a"}}
			},
			want: []string{
				"status.active: Invalid value: active>0 is invalid for finished job", "status.terminating: Invalid value: terminating>0 is invalid for finished job",
				"status.uncountedTerminatedPods: Invalid value: must be empty for finished job",
			},
		},
		{
			rule: "no indexes without indexes", do: func(j *batchv1.Job) { j.Status.CompletedIndexes, j.Status.FailedIndexes = "0", new("") },
			want: []string{
				"status.completedIndexes: Invalid value: cannot set non-empty completedIndexes when non-indexed completion mode",
				"status.failedIndexes: Invalid value: cannot set non-null failedIndexes when backoffLimitPerIndex is null",
			},
		},
	})
}

func TestStatusOfIndexedJobs(t *testing.T) {
	limited := func() *batchv1.Job {
		j := indexedJob()
		j.Spec.BackoffLimitPerIndex = new(int32(1))
		return j
	}
	checkStatuses(t, Jobs, limited, []change[*batchv1.Job]{
		{rule: "some of each", do: func(j *batchv1.Job) { j.Status.CompletedIndexes, j.Status.FailedIndexes = "0-1", new("2") }},
		{
			rule: "indexes that exist", do: func(j *batchv1.Job) { j.Status.CompletedIndexes, j.Status.FailedIndexes = "3", new("2-9") },
			want: []string{
				`status.completedIndexes: Invalid value: error parsing completedIndexes: too large index: "3"`,
				`status.failedIndexes: Invalid value: error parsing failedIndexes: too large index: "9"`,
			},
		},
		{
			rule: "no index is both", do: func(j *batchv1.Job) { j.Status.CompletedIndexes, j.Status.FailedIndexes = "0-1", new("1-2") },
			want: []string{"status.failedIndexes: Invalid value: failedIndexes and completedIndexes overlap at index: 1"},
		},
		{
			rule: "fewer succeeded when there are fewer", was: func(j *batchv1.Job) { j.Status.Succeeded = 2 },
			do: func(j *batchv1.Job) { j.Status.Succeeded = 1 },
		},
		{
			rule: "a status that a smaller job made wrong still gets news", was: func(j *batchv1.Job) { j.Status.CompletedIndexes = "7" },
			do: func(j *batchv1.Job) { j.Status.Active = 2 },
		},
		{
			rule: "a policy on success says when", was: func(j *batchv1.Job) {
				j.Spec.SuccessPolicy = &batchv1.SuccessPolicy{}
				j.Status = batchv1.JobStatus{StartTime: &metav1.Time{}, CompletionTime: &metav1.Time{Time: time.Unix(5, 0)}, Conditions: conditions("Complete")}
			},
			do:   func(j *batchv1.Job) { j.Status.Succeeded = 3 },
			want: []string{"status.conditions: Invalid value: cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True"},
		},
	})
}
