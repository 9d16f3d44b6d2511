package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/robfig/cron/v3"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

// cronJobs makes a Job of each CronJob whenever its time has come. A Job's name tells its time, so that two Masters make no two of it.
type cronJobs struct {
	Config
	queue client.Queue
}

const cronJobController = "cronjob-controller"

func newCronJobs(c Config) loop {
	r := &cronJobs{Config: c, queue: client.NewQueue()}
	c.Caches.CronJobs.OnChange(func(old, o *batchv1.CronJob) { r.queue.Add(client.KeyOf(cmp.Or(o, old))) })
	c.Caches.Jobs.OnChange(func(old, job *batchv1.Job) {
		if ref := metav1.GetControllerOf(cmp.Or(job, old)); ref != nil && isOf(ref, api.CronJobs) {
			r.queue.Add(client.Key{Namespace: cmp.Or(job, old).Namespace, Name: ref.Name})
		}
	})
	return newLoop(cronJobController, r.queue, 2, r.reconcile)
}

func (r *cronJobs) reconcile(ctx context.Context, key client.Key) (time.Duration, error) {
	o, ok := r.Caches.CronJobs.Get(key)
	if !ok || o.DeletionTimestamp != nil {
		return 0, nil
	}
	mine := r.Caches.Jobs.ByIndex(byController, string(o.UID))
	slices.SortFunc(mine, func(a, b *batchv1.Job) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	status := r.look(o, mine)
	if err := r.forget(ctx, o, mine); err != nil {
		return 0, err
	}
	if deref(o.Spec.Suspend) {
		return 0, r.writeStatus(ctx, o, status)
	}
	schedule, err := scheduleOf(o)
	if err != nil { // validated; but what was stored may be older than the rules
		r.Events.EventFrom(cronJobController, o, corev1.EventTypeWarning, "UnparseableSchedule", "unparseable schedule: %v", err)
		return 0, r.writeStatus(ctx, o, status)
	}
	now := r.Now().UTC() // not the zone of whatever machine is Master
	due := r.due(o, schedule, now)
	if !due.IsZero() {
		if err := r.start(ctx, o, &status, due); err != nil {
			return 0, errors.Join(err, r.writeStatus(ctx, o, status))
		}
	}
	var after time.Duration
	if next := schedule.Next(now); !next.IsZero() { // the thirtieth of February never comes
		after = next.Sub(now) + time.Millisecond // surely not before
	}
	return after, r.writeStatus(ctx, o, status)
}

func scheduleOf(o *batchv1.CronJob) (cron.Schedule, error) {
	spec := o.Spec.Schedule
	if zone := o.Spec.TimeZone; zone != nil {
		spec = "TZ=" + *zone + " " + spec
	}
	return api.ParseSchedule(spec)
}

// look is the status that follows from the Jobs.
func (r *cronJobs) look(o *batchv1.CronJob, mine []*batchv1.Job) batchv1.CronJobStatus {
	s := *o.Status.DeepCopy()
	known := func(uid any) bool {
		return slices.ContainsFunc(s.Active, func(ref corev1.ObjectReference) bool { return ref.UID == uid })
	}
	for _, job := range mine {
		if !jobFinished(job) {
			if !known(job.UID) {
				s.Active = append(s.Active, activeRef(job))
			}
			continue
		}
		if known(job.UID) {
			r.Events.EventFrom(cronJobController, o, corev1.EventTypeNormal, "SawCompletedJob", "Saw completed job: %s", job.Name)
		}
		if end := job.Status.CompletionTime; end != nil && (s.LastSuccessfulTime == nil || s.LastSuccessfulTime.Before(end)) {
			s.LastSuccessfulTime = end.DeepCopy()
		}
	}
	s.Active = slices.DeleteFunc(s.Active, func(ref corev1.ObjectReference) bool {
		return !slices.ContainsFunc(mine, func(job *batchv1.Job) bool { return job.UID == ref.UID && !jobFinished(job) })
	})
	if len(s.Active) == 0 {
		s.Active = nil
	}
	return s
}

func activeRef(job *batchv1.Job) corev1.ObjectReference {
	k := api.Jobs
	return corev1.ObjectReference{
		APIVersion: k.GroupVersionKind.GroupVersion().String(), Kind: k.Kind, Namespace: job.Namespace, Name: job.Name, UID: job.UID, ResourceVersion: job.ResourceVersion,
	}
}

// forget deletes the oldest Jobs that have ended, beyond the history that is wanted.
func (r *cronJobs) forget(ctx context.Context, o *batchv1.CronJob, mine []*batchv1.Job) error {
	var done, failed []*batchv1.Job
	for _, job := range mine {
		switch {
		case jobCondition(&job.Status, batchv1.JobComplete) != nil:
			done = append(done, job)
		case jobCondition(&job.Status, batchv1.JobFailed) != nil:
			failed = append(failed, job)
		}
	}
	var w written
	over := func(jobs []*batchv1.Job, keep *int32) []*batchv1.Job {
		if keep == nil {
			return nil
		}
		return jobs[:max(0, len(jobs)-int(*keep))]
	}
	err := each(ctx, slices.Concat(over(done, o.Spec.SuccessfulJobsHistoryLimit), over(failed, o.Spec.FailedJobsHistoryLimit)), func(ctx context.Context, job *batchv1.Job) error {
		return r.deleteJob(ctx, o, job, &w)
	})
	return errors.Join(err, w.shown(ctx, r.Caches.Jobs))
}

func (r *cronJobs) deleteJob(ctx context.Context, o *batchv1.CronJob, job *batchv1.Job, w *written) error {
	if job.DeletionTimestamp != nil {
		return nil
	}
	out, err := r.Client.Delete(ctx, api.Jobs, client.KeyOf(job), client.DeleteOptions{
		Propagation: new(metav1.DeletePropagationBackground), Preconditions: &metav1.Preconditions{UID: &job.UID},
	})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	if err == nil {
		r.Events.EventFrom(cronJobController, o, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted job %s", job.Name)
	}
	return noteWrite(out, err, w, "delete job "+job.Name)
}

// tooMany is how many missed times make a warning, as in Kubernetes.
const tooMany = 100

// due is the newest time that has come and was not acted upon; zero if there is none, or if it is too late for it.
func (r *cronJobs) due(o *batchv1.CronJob, schedule cron.Schedule, now time.Time) time.Time {
	since := o.CreationTimestamp.Time
	if last := o.Status.LastScheduleTime; last != nil {
		since = last.Time
	}
	if d := o.Spec.StartingDeadlineSeconds; d != nil {
		if limit := now.Add(-time.Duration(*d) * time.Second); limit.After(since) {
			since = limit
		}
	}
	newest, missed := lastBefore(schedule, since.UTC(), now)
	if missed > tooMany {
		r.Events.EventFrom(cronJobController, o, corev1.EventTypeWarning, "TooManyMissedTimes",
			"too many missed start times since %s: set or decrease startingDeadlineSeconds, or look at the clocks", since.UTC().Format(time.RFC3339))
	}
	return newest
}

// lastBefore returns the newest time of a schedule after since and not after now, and how many there are, of which it counts a few more than
// tooMany at most.
func lastBefore(schedule cron.Schedule, since, now time.Time) (newest time.Time, n int) {
	for t := schedule.Next(since); !t.IsZero() && !t.After(now) && n <= tooMany; t = schedule.Next(t) {
		newest = t
		n++
	}
	if n <= tooMany {
		return newest, n
	}
	// Far back there are too many to go through: look from nearby.
	for back := time.Minute; ; back *= 2 {
		t := schedule.Next(now.Add(-back))
		if t.IsZero() || t.After(now) {
			continue
		}
		for ; !t.IsZero() && !t.After(now); t = schedule.Next(t) {
			newest = t
		}
		return newest, n
	}
}

// start makes the Job of a time, unless those that run forbid it.
func (r *cronJobs) start(ctx context.Context, o *batchv1.CronJob, status *batchv1.CronJobStatus, due time.Time) error {
	if len(status.Active) > 0 {
		switch o.Spec.ConcurrencyPolicy {
		case batchv1.ForbidConcurrent:
			r.Events.EventFrom(cronJobController, o, corev1.EventTypeNormal, "JobAlreadyActive", "Not starting job because prior execution is running and concurrency policy is Forbid")
			return nil
		case batchv1.ReplaceConcurrent:
			var w written
			for _, ref := range status.Active {
				if job, ok := r.Caches.Jobs.Get(client.Key{Namespace: o.Namespace, Name: ref.Name}); ok && job.UID == ref.UID {
					if err := r.deleteJob(ctx, o, job, &w); err != nil {
						return err
					}
				}
			}
			status.Active = nil
		}
	}
	job := newCronJob(o, due)
	out, err := r.Client.Create(ctx, api.Jobs, job, client.CreateOptions{})
	switch {
	case apierrors.IsAlreadyExists(err): // by us, before the status was written; or somebody else's
		status.LastScheduleTime = &metav1.Time{Time: due}
		return nil
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return nil
	case err != nil:
		if ctx.Err() == nil {
			r.Events.EventFrom(cronJobController, o, corev1.EventTypeWarning, "FailedCreate", "Error creating job: %v", err)
		}
		return fmt.Errorf("create job %s: %w", job.Name, err)
	}
	status.LastScheduleTime = &metav1.Time{Time: due}
	if job, ok := out.(*batchv1.Job); ok {
		status.Active = append(status.Active, activeRef(job))
		r.Events.EventFrom(cronJobController, o, corev1.EventTypeNormal, "SuccessfulCreate", "Created job %s", job.Name)
		return r.Caches.Jobs.WaitFor(ctx, job.ResourceVersion)
	}
	return nil
}

// newCronJob is the Job of a time.
func newCronJob(o *batchv1.CronJob, due time.Time) *batchv1.Job {
	t := o.Spec.JobTemplate.DeepCopy()
	job := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Name: fmt.Sprintf("%s-%d", o.Name, due.Unix()/60), Namespace: o.Namespace, Labels: t.Labels, Annotations: t.Annotations,
			OwnerReferences: []metav1.OwnerReference{controllerRef(o, api.CronJobs)},
		},
		Spec: t.Spec,
	}
	if job.Annotations == nil {
		job.Annotations = map[string]string{}
	}
	when := due
	if zone := o.Spec.TimeZone; zone != nil {
		if l, err := time.LoadLocation(*zone); err == nil {
			when = due.In(l)
		}
	}
	job.Annotations[batchv1.CronJobScheduledTimestampAnnotation] = when.Format(time.RFC3339)
	return job
}

func (r *cronJobs) writeStatus(ctx context.Context, o *batchv1.CronJob, status batchv1.CronJobStatus) error {
	return updateStatus(ctx, r.Config, api.CronJobs, r.Caches.CronJobs, o, func(o *batchv1.CronJob) { o.Status = status })
}
