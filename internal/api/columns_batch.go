package api

import (
	"fmt"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
)

func jobColumns() []metav1.TableColumnDefinition {
	return slices.Concat([]metav1.TableColumnDefinition{
		nameColumn(),
		column("Status", "Status of the job."),
		column("Completions", batchv1.JobStatus{}.SwaggerDoc()["succeeded"]),
		column("Duration", "Time required to complete the job."),
		ageColumn(),
	}, templateColumns(column("Selector", batchv1.JobSpec{}.SwaggerDoc()["selector"])))
}

func jobCells(j *batchv1.Job, now time.Time) []any {
	containers, images := templateCells(&j.Spec.Template)
	return []any{
		j.Name, jobStatusText(j), jobCompletions(j), jobDuration(&j.Status, now), since(j.CreationTimestamp, now),
		containers, images, metav1.FormatLabelSelector(j.Spec.Selector),
	}
}

func jobStatusText(j *batchv1.Job) string {
	is := func(t batchv1.JobConditionType) bool { return hasJobCondition(j, t, corev1.ConditionTrue) }
	switch {
	case is(batchv1.JobComplete):
		return "Complete"
	case is(batchv1.JobFailed):
		return "Failed"
	case j.DeletionTimestamp != nil:
		return "Terminating"
	}
	for _, t := range []batchv1.JobConditionType{batchv1.JobSuspended, batchv1.JobFailureTarget, batchv1.JobSuccessCriteriaMet} {
		if is(t) {
			return string(t)
		}
	}
	return "Running"
}

// jobCompletions: a job that names no number of completions is complete with the first success.
func jobCompletions(j *batchv1.Job) string {
	switch n := orZero(j.Spec.Parallelism); {
	case j.Spec.Completions != nil:
		return fmt.Sprintf("%d/%d", j.Status.Succeeded, *j.Spec.Completions)
	case n > 1:
		return fmt.Sprintf("%d/1 of %d", j.Status.Succeeded, n)
	}
	return fmt.Sprintf("%d/1", j.Status.Succeeded)
}

func jobDuration(s *batchv1.JobStatus, now time.Time) string {
	switch {
	case s.StartTime == nil:
		return ""
	case s.CompletionTime == nil:
		return duration.HumanDuration(now.Sub(s.StartTime.Time))
	}
	return duration.HumanDuration(s.CompletionTime.Sub(s.StartTime.Time))
}

func cronJobColumns() []metav1.TableColumnDefinition {
	spec, status := batchv1.CronJobSpec{}.SwaggerDoc(), batchv1.CronJobStatus{}.SwaggerDoc()
	return slices.Concat([]metav1.TableColumnDefinition{
		nameColumn(),
		column("Schedule", spec["schedule"]),
		column("Timezone", spec["timeZone"]),
		{Name: "Suspend", Type: "boolean", Description: spec["suspend"]},
		number("Active", status["active"]),
		column("Last Schedule", status["lastScheduleTime"]),
		ageColumn(),
	}, templateColumns(column("Selector", batchv1.JobSpec{}.SwaggerDoc()["selector"])))
}

func cronJobCells(c *batchv1.CronJob, now time.Time) []any {
	zone, last, suspended := none, none, "<unset>"
	if c.Spec.TimeZone != nil {
		zone = *c.Spec.TimeZone
	}
	if c.Status.LastScheduleTime != nil {
		last = since(*c.Status.LastScheduleTime, now)
	}
	if c.Spec.Suspend != nil {
		suspended = "False"
		if *c.Spec.Suspend {
			suspended = "True"
		}
	}
	containers, images := templateCells(&c.Spec.JobTemplate.Spec.Template)
	return []any{
		c.Name, c.Spec.Schedule, zone, suspended, int64(len(c.Status.Active)), last, since(c.CreationTimestamp, now),
		containers, images, metav1.FormatLabelSelector(c.Spec.JobTemplate.Spec.Selector),
	}
}
