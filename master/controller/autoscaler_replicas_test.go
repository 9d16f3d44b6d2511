package controller

import (
	"fmt"
	"strings"
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// used describes a pod of one container that requests 1 CPU: what it uses, in thousandths, and how it is.
type used struct {
	millis  int64 // negative: no reading
	phase   corev1.PodPhase
	unready bool
	young   bool // has just started
	going   bool
}

// The rules of https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#algorithm-details, by example.
func TestReplicasByUse(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name    string
		pods    []used
		target  int32 // percent
		current int32 // as many as pods when zero
		want    int32
		err     string
	}{
		{name: "twice the target: twice as many", pods: []used{{millis: 1000}, {millis: 1000}}, target: 50, want: 4},
		{name: "half the target: half as many", pods: []used{{millis: 250}, {millis: 250}}, target: 50, want: 1},
		{name: "a tenth above is tolerated", pods: []used{{millis: 550}, {millis: 550}}, target: 50, want: 2},
		{name: "more than a tenth is not", pods: []used{{millis: 560}, {millis: 560}}, target: 50, want: 3},
		{name: "a part is a whole pod", pods: []used{{millis: 600}, {millis: 600}, {millis: 600}}, target: 50, want: 4},
		{name: "pods that go and that failed do not count", pods: []used{{millis: 1000}, {millis: 9000, going: true}, {millis: 9000, phase: corev1.PodFailed}}, target: 50, current: 1, want: 2},
		{name: "a pod that starts counts as using nothing when there should be more", pods: []used{{millis: 1000}, {millis: 1000}, {millis: 10, unready: true, young: true}}, target: 50, want: 4},
		{name: "and dampens that", pods: []used{{millis: 700}, {millis: 700}, {phase: corev1.PodPending, millis: -1}}, target: 50, want: 3},
		{name: "a pod that starts does not count when there should be fewer", pods: []used{{millis: 100}, {millis: 100}, {millis: 5000, unready: true, young: true}}, target: 50, want: 1},
		{name: "one without a reading counts as whole when there should be fewer", pods: []used{{millis: 100}, {millis: 100}, {millis: -1}}, target: 50, want: 3},
		{name: "and as nothing when there should be more", pods: []used{{millis: 900}, {millis: 900}, {millis: -1}}, target: 50, want: 4},
		{name: "it does not turn the direction", pods: []used{{millis: 600}, {millis: -1}}, target: 50, want: 2},
		{name: "none ready", pods: []used{{millis: -1, phase: corev1.PodPending}}, target: 50, err: "did not receive metrics"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := demand{
				name: corev1.ResourceCPU, target: autoscalingv2.MetricTarget{AverageUtilization: &c.target}, current: c.current,
				have: map[types.UID]reading{}, now: now, tolerated: tolerancesOf(nil),
			}
			if d.current == 0 {
				d.current = int32(len(c.pods))
			}
			for i, u := range c.pods {
				p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("p", i), UID: types.UID(fmt.Sprint("p", i))}}
				p.Spec.Containers = []corev1.Container{{Name: "main", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}}}}
				p.Status.Phase = corev1.PodRunning
				if u.phase != "" {
					p.Status.Phase = u.phase
				}
				since := metav1.NewTime(now.Add(-time.Hour))
				if u.young {
					since = metav1.NewTime(now.Add(-10 * time.Second))
				}
				ready := corev1.ConditionTrue
				if u.unready {
					ready = corev1.ConditionFalse
				}
				p.Status.StartTime = &since
				p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: ready, LastTransitionTime: since}}
				if u.going {
					p.DeletionTimestamp = &since
				}
				d.pods = append(d.pods, p)
				if u.millis >= 0 {
					d.have[p.UID] = reading{u.millis, now, time.Second}
				}
			}
			got, _, _, err := d.replicas()
			switch {
			case c.err != "":
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error %v, want %q", err, c.err)
				}
			case err != nil || got != c.want:
				t.Errorf("got %d (%v), want %d", got, err, c.want)
			}
		})
	}
}
