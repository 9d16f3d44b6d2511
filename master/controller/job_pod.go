package controller

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
)

// indexEnv tells a container of an indexed Job which part of the work is its own.
const indexEnv = "JOB_COMPLETION_INDEX"

// newJobPod is a pod of a Job, of an index unless that is negative, which has failed so often before.
func newJobPod(job *batchv1.Job, index int, failures int32) *corev1.Pod {
	t := job.Spec.Template.DeepCopy()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: job.Name + "-", Namespace: job.Namespace, Labels: t.Labels, Annotations: t.Annotations,
			Finalizers:      append(slices.Clone(t.Finalizers), batchv1.JobTrackingFinalizer),
			OwnerReferences: []metav1.OwnerReference{controllerRef(job, api.Jobs)},
		},
		Spec: t.Spec,
	}
	if index < 0 {
		return p
	}
	n := strconv.Itoa(index)
	if p.Annotations == nil {
		p.Annotations = map[string]string{}
	}
	if p.Labels == nil {
		p.Labels = map[string]string{}
	}
	p.GenerateName = job.Name + "-" + n + "-"
	p.Annotations[batchv1.JobCompletionIndexAnnotation], p.Labels[batchv1.JobCompletionIndexAnnotation] = n, n
	if job.Spec.BackoffLimitPerIndex != nil {
		p.Annotations[failuresAnnotation] = strconv.Itoa(int(failures))
	}
	p.Spec.Hostname = cmp.Or(p.Spec.Hostname, job.Name+"-"+n)
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			if !slices.ContainsFunc(list[i].Env, func(e corev1.EnvVar) bool { return e.Name == indexEnv }) {
				list[i].Env = append(list[i].Env, corev1.EnvVar{Name: indexEnv, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{
					FieldPath: "metadata.annotations['" + batchv1.JobCompletionIndexAnnotation + "']",
				}}})
			}
		}
	}
	return p
}

// failurePolicy is what a Job's policy says of a pod that has failed: the first rule that fits it. Empty: it counts as a failure.
func failurePolicy(job *batchv1.Job, pod *corev1.Pod) (action batchv1.PodFailurePolicyAction, why string) {
	if job.Spec.PodFailurePolicy == nil || pod.Status.Phase == corev1.PodSucceeded {
		return "", ""
	}
	for i, rule := range job.Spec.PodFailurePolicy.Rules {
		switch {
		case rule.OnExitCodes != nil:
			if c := exited(pod, rule.OnExitCodes); c != nil {
				return rule.Action, fmt.Sprintf("Container %s for pod %s/%s failed with exit code %d matching %s rule at index %d",
					c.Name, pod.Namespace, pod.Name, c.State.Terminated.ExitCode, rule.Action, i)
			}
		default:
			for _, want := range rule.OnPodConditions {
				if c := api.PodCondition(pod, want.Type); c != nil && c.Status == want.Status {
					return rule.Action, fmt.Sprintf("Pod %s/%s has condition %s matching %s rule at index %d", pod.Namespace, pod.Name, c.Type, rule.Action, i)
				}
			}
		}
	}
	return "", ""
}

// exited returns the container whose end fits.
func exited(pod *corev1.Pod, want *batchv1.PodFailurePolicyOnExitCodesRequirement) *corev1.ContainerStatus {
	for _, c := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		t := c.State.Terminated
		if t == nil || t.ExitCode == 0 || want.ContainerName != nil && *want.ContainerName != c.Name {
			continue
		}
		if in := slices.Contains(want.Values, t.ExitCode); in == (want.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn) {
			return &c
		}
	}
	return nil
}

// indexes is a set of parts of an indexed Job. As text it is "1,3-5,7".
type indexes map[int]bool

// parseIndexes reads the indexes below n. What is no such text was refused by validation.
func parseIndexes(text string, n int) indexes {
	all := indexes{}
	for part := range strings.SplitSeq(text, ",") {
		from, to, isRange := strings.Cut(part, "-")
		a, err := strconv.Atoi(from)
		if err != nil {
			continue
		}
		b := a
		if isRange {
			if b, err = strconv.Atoi(to); err != nil {
				continue
			}
		}
		for i := a; i <= min(b, n-1); i++ {
			all[i] = true
		}
	}
	return all
}

func (s indexes) keepBelow(n int) { maps.DeleteFunc(s, func(i int, _ bool) bool { return i >= n }) }

func (s indexes) String() string {
	var parts []string
	sorted := slices.Sorted(maps.Keys(s))
	for i := 0; i < len(sorted); {
		j := i
		for j+1 < len(sorted) && sorted[j+1] == sorted[j]+1 {
			j++
		}
		switch j - i {
		case 0:
			parts = append(parts, strconv.Itoa(sorted[i]))
		case 1:
			parts = append(parts, strconv.Itoa(sorted[i]), strconv.Itoa(sorted[j]))
		default:
			parts = append(parts, fmt.Sprintf("%d-%d", sorted[i], sorted[j]))
		}
		i = j + 1
	}
	return strings.Join(parts, ",")
}
