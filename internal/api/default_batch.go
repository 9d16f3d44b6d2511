package api

import (
	"maps"
	"math"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Labels of a job's pods as they were called before they had a prefix. Clients still select by them.
const (
	oldJobNameLabel       = "job-name"
	oldControllerUIDLabel = "controller-uid"
)

func defaultJob(j *batchv1.Job) {
	s := &j.Spec
	if s.Parallelism == nil {
		unset(&s.Completions, 1)
	}
	unset(&s.Parallelism, 1)
	if s.BackoffLimitPerIndex != nil {
		unset(&s.BackoffLimit, math.MaxInt32)
	}
	unset(&s.BackoffLimit, 6)
	// The same map, not a copy: a job without labels of its own also gets those that prepareNewJob adds for its pods.
	if len(j.Labels) == 0 && s.Template.Labels != nil {
		j.Labels = s.Template.Labels
	}
	unset(&s.CompletionMode, batchv1.NonIndexedCompletion)
	unset(&s.Suspend, false)
	if s.PodFailurePolicy != nil {
		unset(&s.PodReplacementPolicy, batchv1.Failed)
	}
	unset(&s.PodReplacementPolicy, batchv1.TerminatingOrFailed)
	unset(&s.ManualSelector, false)
	defaultJobSpec(s)
}

func defaultCronJob(c *batchv1.CronJob) {
	blank(&c.Spec.ConcurrencyPolicy, batchv1.AllowConcurrent)
	unset(&c.Spec.Suspend, false)
	unset(&c.Spec.SuccessfulJobsHistoryLimit, 3)
	unset(&c.Spec.FailedJobsHistoryLimit, 1)
	defaultJobSpec(&c.Spec.JobTemplate.Spec)
}

// defaultJobSpec fills in what is filled in for a template of jobs, too.
func defaultJobSpec(s *batchv1.JobSpec) {
	if s.PodFailurePolicy != nil {
		for i := range s.PodFailurePolicy.Rules {
			for j := range s.PodFailurePolicy.Rules[i].OnPodConditions {
				blank(&s.PodFailurePolicy.Rules[i].OnPodConditions[j].Status, corev1.ConditionTrue)
			}
		}
	}
	defaultPodSpec(&s.Template.Spec)
}

func prepareNewJob(j *batchv1.Job) {
	j.Status = batchv1.JobStatus{}
	dropScheduling(&j.Spec)
	if !isSet(j.Spec.ManualSelector) {
		selectOwnPods(j)
	}
	labelLikePods(j)
}

// labelLikePods gives a job without labels those of its pods, and any job a map of its own.
func labelLikePods(j *batchv1.Job) {
	if len(j.Labels) == 0 {
		j.Labels = j.Spec.Template.Labels
	}
	j.Labels = maps.Clone(j.Labels)
}

// selectOwnPods makes a job select its pods, and only those, by its UID. Labels and selectors of the client that
// contradict it are left to be refused.
func selectOwnPods(j *batchv1.Job) {
	add := func(labels *map[string]string, name, value string) {
		if *labels == nil {
			*labels = map[string]string{}
		}
		if _, had := (*labels)[name]; !had {
			(*labels)[name] = value
		}
	}
	labels := &j.Spec.Template.Labels
	add(labels, oldJobNameLabel, j.Name)
	add(labels, batchv1.JobNameLabel, j.Name)
	add(labels, oldControllerUIDLabel, string(j.UID))
	add(labels, batchv1.ControllerUidLabel, string(j.UID))
	unset(&j.Spec.Selector, metav1.LabelSelector{})
	add(&j.Spec.Selector.MatchLabels, batchv1.ControllerUidLabel, string(j.UID))
}
