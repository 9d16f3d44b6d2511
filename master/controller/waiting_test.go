package controller

import (
	"fmt"
	"math"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestASlipMakesNoBillionPods plans with the highest numbers that can be asked for, while so many pods wait for a node and others have one.
func TestASlipMakesNoBillionPods(t *testing.T) {
	all := int32(math.MaxInt32)
	for waiting, want := range map[int]int{0: mostWaiting, 4000: mostWaiting - 4000, mostWaiting: 0, mostWaiting + 10: 0} {
		var pods []*corev1.Pod
		for i := range waiting + 100 {
			p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("set-", i)}}
			if i >= waiting {
				p.Spec.NodeName = "a"
			}
			pods = append(pods, p)
		}
		set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "set"}, Spec: appsv1.StatefulSetSpec{Replicas: &all, PodManagementPolicy: appsv1.ParallelPodManagement}}
		if p := newStatefulPlan(set, history{}, pods, time.Now()); len(p.create) != want || !p.held || len(p.remove) > 0 {
			t.Errorf("a StatefulSet with %d that wait makes %d more, want %d", waiting, len(p.create), want)
		}
		job := &batchv1.Job{Spec: batchv1.JobSpec{Parallelism: &all, Completions: &all, BackoffLimit: &all}}
		if p := newJobPlan(job, pods, time.Now()); len(p.create) != min(want, maxJobPods) || !p.held || len(p.remove) > 0 {
			t.Errorf("a Job with %d that wait makes %d more, want %d", waiting, len(p.create), min(want, maxJobPods))
		}
		if got := room(pods); got != want {
			t.Errorf("with %d that wait there is room for %d, want %d", waiting, got, want)
		}
	}
}
