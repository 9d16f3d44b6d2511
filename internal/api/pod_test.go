package api

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func list(cpu, memory string) corev1.ResourceList {
	l := corev1.ResourceList{}
	if cpu != "" {
		l[corev1.ResourceCPU] = resource.MustParse(cpu)
	}
	if memory != "" {
		l[corev1.ResourceMemory] = resource.MustParse(memory)
	}
	return l
}

func container(requests, limits corev1.ResourceList) corev1.Container {
	return corev1.Container{Resources: corev1.ResourceRequirements{Requests: requests, Limits: limits}}
}

func sidecar(requests corev1.ResourceList) corev1.Container {
	c, always := container(requests, nil), corev1.ContainerRestartPolicyAlways
	c.RestartPolicy = &always
	return c
}

func TestPodRequests(t *testing.T) {
	one := container(list("1", "1Gi"), nil)
	for _, c := range []struct {
		name string
		spec corev1.PodSpec
		want corev1.ResourceList
	}{
		{"none", corev1.PodSpec{Containers: []corev1.Container{{}}}, list("", "")},
		{"a sum", corev1.PodSpec{Containers: []corev1.Container{one, one}}, list("2", "2Gi")},
		{
			"a greedy start",
			corev1.PodSpec{Containers: []corev1.Container{one}, InitContainers: []corev1.Container{container(list("3", "100Mi"), nil)}},
			list("3", "1Gi"),
		},
		{
			"two starts, one after the other",
			corev1.PodSpec{InitContainers: []corev1.Container{container(list("2", ""), nil), container(list("3", ""), nil)}},
			list("3", ""),
		},
		{
			"a sidecar runs on",
			corev1.PodSpec{Containers: []corev1.Container{one}, InitContainers: []corev1.Container{sidecar(list("1", ""))}},
			list("2", "1Gi"),
		},
		{
			"a start beside a sidecar, but not beside a later one",
			corev1.PodSpec{InitContainers: []corev1.Container{sidecar(list("1", "")), container(list("4", ""), nil), sidecar(list("1", ""))}},
			list("5", ""),
		},
		{"overhead", corev1.PodSpec{Containers: []corev1.Container{one}, Overhead: list("100m", "")}, list("1100m", "1Gi")},
		{
			"the pod's own word",
			corev1.PodSpec{Containers: []corev1.Container{one}, Resources: &corev1.ResourceRequirements{Requests: list("5", "")}, Overhead: list("1", "")},
			list("6", "1Gi"),
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := (&corev1.Pod{Spec: c.spec}).DeepCopy()
			if got := PodRequests(&corev1.Pod{Spec: c.spec}); !isSame(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
			if !isSame(before.Spec, c.spec) {
				t.Error("the pod changed")
			}
		})
	}
}

func TestQOSClass(t *testing.T) {
	for _, c := range []struct {
		name       string
		containers []corev1.Container
		want       corev1.PodQOSClass
	}{
		{"nothing", []corev1.Container{{}}, corev1.PodQOSBestEffort},
		{"no containers", nil, corev1.PodQOSBestEffort},
		{"zero is nothing", []corev1.Container{container(list("0", ""), nil)}, corev1.PodQOSBestEffort},
		{"a request", []corev1.Container{container(list("1", ""), nil)}, corev1.PodQOSBurstable},
		{"limits of both kinds", []corev1.Container{container(list("1", "1Gi"), list("1", "1Gi"))}, corev1.PodQOSGuaranteed},
		{"limits above the request", []corev1.Container{container(list("1", "1Gi"), list("2", "1Gi"))}, corev1.PodQOSBurstable},
		{"CPU alone", []corev1.Container{container(list("1", ""), list("1", ""))}, corev1.PodQOSBurstable},
		{"one container without", []corev1.Container{container(list("1", "1Gi"), list("1", "1Gi")), {}}, corev1.PodQOSBurstable},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := QOSClass(&corev1.Pod{Spec: corev1.PodSpec{Containers: c.containers}}); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestNewPodsBeginAnew(t *testing.T) {
	p := &corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "1.2.3.4", QOSClass: corev1.PodQOSGuaranteed}}
	Pods.PrepareCreate(p)
	if diff := cmp.Diff(corev1.PodStatus{Phase: corev1.PodPending, QOSClass: corev1.PodQOSBestEffort}, p.Status); diff != "" {
		t.Error(diff)
	}
}

func TestImageTags(t *testing.T) {
	for image, want := range map[string]corev1.PullPolicy{
		"busybox":             corev1.PullAlways,
		"busybox:latest":      corev1.PullAlways,
		"busybox:1":           corev1.PullIfNotPresent,
		"host:5000/a/b":       corev1.PullAlways,
		"host:5000/a/b:v1":    corev1.PullIfNotPresent,
		"a@sha256:00":         corev1.PullIfNotPresent,
		"a:latest@sha256:00":  corev1.PullAlways,
		"host:5000/a@sha1:00": corev1.PullIfNotPresent,
	} {
		if got := pullPolicy(image); got != want {
			t.Errorf("%s: %s, want %s", image, got, want)
		}
	}
}

// Rows that the recordings do not have, because they are younger or need a deletion.
func TestPodRows(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	ago := func(d time.Duration) metav1.Time { return metav1.NewTime(now.Add(-d)) }
	yes, always := true, corev1.ContainerRestartPolicyAlways
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	crashed := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{FinishedAt: ago(3 * time.Minute)}}
	deleted := metav1.ObjectMeta{DeletionTimestamp: &metav1.Time{}}
	for _, c := range []struct {
		name string
		pod  corev1.Pod
		want []any // ready, status, restarts
	}{
		{
			"restarted",
			corev1.Pod{Spec: corev1.PodSpec{Containers: make([]corev1.Container, 1)}, Status: corev1.PodStatus{
				Phase:             corev1.PodRunning,
				ContainerStatuses: []corev1.ContainerStatus{{Ready: true, RestartCount: 2, State: running, LastTerminationState: crashed}},
			}},
			[]any{"1/1", "Running", "2 (3m ago)"},
		},
		{
			"with a sidecar",
			corev1.Pod{Spec: corev1.PodSpec{
				InitContainers: []corev1.Container{{Name: "s", RestartPolicy: &always}}, Containers: make([]corev1.Container, 1),
			}, Status: corev1.PodStatus{
				Phase:                 corev1.PodRunning,
				InitContainerStatuses: []corev1.ContainerStatus{{Name: "s", Started: &yes, Ready: true, State: running, RestartCount: 1, LastTerminationState: crashed}},
				ContainerStatuses:     []corev1.ContainerStatus{{Ready: true, State: running}},
			}},
			[]any{"2/2", "Running", "1 (3m ago)"},
		},
		{"going", corev1.Pod{ObjectMeta: deleted, Status: corev1.PodStatus{Phase: corev1.PodRunning}}, []any{"0/0", "Terminating", "0"}},
		{"ended and going", corev1.Pod{ObjectMeta: deleted, Status: corev1.PodStatus{Phase: corev1.PodSucceeded}}, []any{"0/0", "Succeeded", "0"}},
		{"lost", corev1.Pod{ObjectMeta: deleted, Status: corev1.PodStatus{Reason: "NodeLost"}}, []any{"0/0", "Unknown", "0"}},
		{
			"gated",
			corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodPending, Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Reason: "SchedulingGated"}}}},
			[]any{"0/0", "SchedulingGated", "0"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, Pods.Cells(&c.pod, now)[1:4]); diff != "" {
				t.Error(diff)
			}
		})
	}
}
