package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

// jobs runs the pods of each Job until as many have succeeded as should. A pod holds a finalizer until its end is in the Job's status, so that none is
// forgotten or counted twice, whoever deletes it and however often the Master changes: first its UID is written down there, then it loses the
// finalizer, then the UID becomes part of the number.
type jobs struct {
	Config
	queue client.Queue
}

const jobController = "job-controller"

func newJobs(c Config) loop {
	j := &jobs{Config: c, queue: client.NewQueue()}
	c.Caches.Jobs.OnChange(func(old, job *batchv1.Job) { j.queue.Add(client.KeyOf(cmp.Or(job, old))) })
	follow(c.Caches.Pods, wakeOwner(api.Jobs, j.queue.Add,
		selecting(c.Caches.Jobs, func(job *batchv1.Job) *metav1.LabelSelector { return job.Spec.Selector })))
	return newLoop(jobController, j.queue, 5, j.reconcile)
}

func (j *jobs) reconcile(ctx context.Context, key client.Key) (time.Duration, error) {
	job, ok := j.Caches.Jobs.Get(key)
	if !ok {
		return 0, nil // its pods are those of jobOrphans and of the garbage collector
	}
	if by := job.Spec.ManagedBy; by != nil && *by != batchv1.JobControllerName {
		return 0, nil
	}
	pods, err := j.pods(ctx, job)
	if err != nil {
		return 0, err
	}
	if job.DeletionTimestamp != nil || jobFinished(job) {
		return j.afterwards(ctx, job, pods)
	}
	p := newJobPlan(job, pods, j.Now())
	if err := j.writeStatus(ctx, job, p.status); err != nil {
		return 0, err
	}
	// What is written down may go; what goes by our own hand is no failure.
	if err := j.release(ctx, slices.Concat(p.counted, p.remove)); err != nil {
		return 0, err
	}
	return p.after, j.act(ctx, job, p)
}

// pods are those that the Job controls.
func (j *jobs) pods(ctx context.Context, job *batchv1.Job) ([]*corev1.Pod, error) {
	selector := selectorOf(job.Spec.Selector)
	mine, changed, err := claim(ctx, j.Config, api.Jobs, job, api.Pods, j.Caches.Pods, func(p *corev1.Pod) (matches, adoptable bool) {
		return selector.Matches(labelsOf(p)), api.IsPodActive(p)
	})
	if changed {
		mine = j.Caches.Pods.ByIndex(byController, string(job.UID))
	}
	return mine, err
}

// afterwards lets go the pods of a Job that has ended, and deletes it when its time has come.
func (j *jobs) afterwards(ctx context.Context, job *batchv1.Job, pods []*corev1.Pod) (time.Duration, error) {
	if err := j.release(ctx, pods); err != nil {
		return 0, err
	}
	ttl := job.Spec.TTLSecondsAfterFinished
	if ttl == nil || job.DeletionTimestamp != nil {
		return 0, nil
	}
	if left := endOf(job).Add(time.Duration(*ttl) * time.Second).Sub(j.Now()); left > 0 {
		return left, nil
	}
	_, err := j.Client.Delete(ctx, api.Jobs, client.KeyOf(job), client.DeleteOptions{
		Propagation: new(metav1.DeletePropagationForeground), Preconditions: &metav1.Preconditions{UID: &job.UID, ResourceVersion: &job.ResourceVersion},
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return 0, fmt.Errorf("delete after its time: %w", err)
	}
	return 0, nil
}

// release takes the finalizer from pods, and returns when the cache shows it.
func (j *jobs) release(ctx context.Context, pods []*corev1.Pod) error {
	var w written
	err := each(ctx, pods, func(ctx context.Context, p *corev1.Pod) error {
		if !tracked(p) {
			return nil
		}
		p = p.DeepCopy()
		p.Finalizers = slices.DeleteFunc(p.Finalizers, func(f string) bool { return f == batchv1.JobTrackingFinalizer })
		out, err := j.Client.Update(ctx, api.Pods, p, client.UpdateOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return noteWrite(out, err, &w, "release pod "+p.Name)
	})
	return errors.Join(err, w.shown(ctx, j.Caches.Pods))
}

func tracked(p *corev1.Pod) bool { return slices.Contains(p.Finalizers, batchv1.JobTrackingFinalizer) }

// act makes and deletes pods, and returns when the cache shows it.
func (j *jobs) act(ctx context.Context, job *batchv1.Job, p *jobPlan) error {
	var w written
	err := each(ctx, slices.Concat(p.remove, p.evict), func(ctx context.Context, pod *corev1.Pod) error {
		if err := deleteObject(ctx, j.Client, api.Pods, pod, nil, &w); err != nil {
			return err
		}
		j.Events.EventFrom(jobController, job, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: %s", pod.Name)
		return nil
	})
	if err == nil {
		if p.held {
			j.sayHeld(jobController, job)
		}
		err = createAll(ctx, p.create, func(ctx context.Context, pod *corev1.Pod) error {
			return createPod(ctx, j.Config, jobController, job, pod, &w)
		})
	}
	return errors.Join(err, w.shown(ctx, j.Caches.Pods))
}

func (j *jobs) writeStatus(ctx context.Context, job *batchv1.Job, status batchv1.JobStatus) error {
	if err := updateStatus(ctx, j.Config, api.Jobs, j.Caches.Jobs, job, func(job *batchv1.Job) { job.Status = status }); err != nil {
		return err
	}
	if c := jobCondition(&status, batchv1.JobFailed); c != nil {
		j.Events.EventFrom(jobController, job, corev1.EventTypeWarning, c.Reason, "%s", c.Message)
	} else if jobCondition(&status, batchv1.JobComplete) != nil {
		j.Events.EventFrom(jobController, job, corev1.EventTypeNormal, "Completed", "Job completed")
	}
	return nil
}

// jobCondition returns a condition that is true.
func jobCondition(s *batchv1.JobStatus, t batchv1.JobConditionType) *batchv1.JobCondition {
	for i := range s.Conditions {
		if s.Conditions[i].Type == t && s.Conditions[i].Status == corev1.ConditionTrue {
			return &s.Conditions[i]
		}
	}
	return nil
}

func jobFinished(job *batchv1.Job) bool {
	return jobCondition(&job.Status, batchv1.JobComplete) != nil || jobCondition(&job.Status, batchv1.JobFailed) != nil
}

// endOf is when a Job that has ended did.
func endOf(job *batchv1.Job) time.Time {
	if c := jobCondition(&job.Status, batchv1.JobComplete); c != nil {
		return c.LastTransitionTime.Time
	}
	return jobCondition(&job.Status, batchv1.JobFailed).LastTransitionTime.Time
}

// indexOf is which part of an indexed Job a pod is; none has -1.
func indexOf(p *corev1.Pod) int {
	n, err := strconv.Atoi(p.Annotations[batchv1.JobCompletionIndexAnnotation])
	if err != nil || n < 0 {
		return -1
	}
	return n
}
