package api

import (
	"strconv"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The rows of group batch.
var (
	CronJobs = row[batchv1.CronJob, batchv1.CronJobList](batchv1.SchemeGroupVersion, "CronJob", "cronjobs", "cj").with(cronJobRow)
	Jobs     = row[batchv1.Job, batchv1.JobList](batchv1.SchemeGroupVersion, "Job", "jobs").with(jobRow)
)

func cronJobRow(k *Kind) {
	k.Categories = []string{"all"}
	k.Subresources = []Subresource{{Name: "status", Kind: "CronJob", Verbs: statusVerbs()}}
	k.Default = on(defaultCronJob)
	k.PrepareCreate = on(func(c *batchv1.CronJob) {
		c.Status = batchv1.CronJobStatus{}
		dropScheduling(&c.Spec.JobTemplate.Spec)
	})
	k.PrepareUpdate = pair(func(updated, old *batchv1.CronJob) {
		updated.Status = old.Status
		dropScheduling(&updated.Spec.JobTemplate.Spec)
	})
	k.Validate, k.ValidateUpdate = check(validateCronJob), compare(validateCronJobUpdate)
	k.ValidateStatus = compare(func(_, _ *batchv1.CronJob) field.ErrorList { return nil })
	k.CopyStatus = pair(func(to, from *batchv1.CronJob) { to.Status = *from.Status.DeepCopy() })
	k.Columns, k.Cells = cronJobColumns(), cells(cronJobCells)
	k.Generation = true
}

func jobRow(k *Kind) {
	k.Categories = []string{"all"}
	k.Subresources = []Subresource{{Name: "status", Kind: "Job", Verbs: statusVerbs()}}
	k.Default = on(defaultJob)
	k.PrepareCreate = on(prepareNewJob)
	k.PrepareUpdate = pair(func(updated, old *batchv1.Job) {
		updated.Status = old.Status
		dropScheduling(&updated.Spec)
		labelLikePods(updated)
	})
	k.PrepareStatus = pair(func(updated, _ *batchv1.Job) { labelLikePods(updated) })
	k.Validate, k.ValidateUpdate, k.ValidateStatus = check(validateJob), compare(validateJobUpdate), compare(validateJobStatus)
	k.CopyStatus = pair(func(to, from *batchv1.Job) { to.Status = *from.Status.DeepCopy() })
	k.Fields = fieldSet(jobFields)
	k.Columns, k.Cells = jobColumns(), cells(jobCells)
	k.Generation = true
}

// dropScheduling drops the wish to be scheduled as a group, which Kubernetes drops, too, unless an alpha feature is on.
func dropScheduling(s *batchv1.JobSpec) { s.Scheduling = nil }

func jobFields(j *batchv1.Job) fields.Set {
	return fields.Set{"status.successful": strconv.Itoa(int(j.Status.Succeeded))}
}
