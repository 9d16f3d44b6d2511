package main

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestPodsThatAFileAsksFor(t *testing.T) {
	ms, err := parseManifests("web.yaml", []byte(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      priorityClassName: high
      containers: [{name: main, image: "web:1", resources: {limits: {cpu: "2"}}}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {ports: [{port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: one, namespace: shop}
spec: {containers: [{name: main, image: "web:1"}]}
`))
	if err != nil {
		t.Fatal(err)
	}
	classes := []*schedulingv1.PriorityClass{{ObjectMeta: metav1.ObjectMeta{Name: "high"}, Value: 7}, {ObjectMeta: metav1.ObjectMeta{Name: "usual"}, Value: 3, GlobalDefault: true}}
	var names []string
	for _, m := range ms {
		pods, err := podsOf(m, classes)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range pods {
			names = append(names, p.Namespace+"/"+p.Name)
			want := int32(7)
			if p.Name == "one" {
				want = 3
			} else if q := p.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU]; q.String() != "2" || metav1.GetControllerOf(p) == nil {
				t.Errorf("%s requests %s CPUs and has owners %v", p.Name, q.String(), p.OwnerReferences)
			}
			if *p.Spec.Priority != want {
				t.Errorf("%s has priority %d, want %d", p.Name, *p.Spec.Priority, want)
			}
		}
	}
	if got := strings.Join(names, " "); got != "shop/web-0 shop/web-1 shop/web-2 shop/one" {
		t.Errorf("pods %s", got)
	}
}

func TestWhatAPodWaitsFor(t *testing.T) {
	pending := func(f func(*corev1.Pod)) *corev1.Pod {
		p := &corev1.Pod{}
		f(p)
		return p
	}
	for _, c := range []struct {
		pod  *corev1.Pod
		want string
	}{
		{pending(func(*corev1.Pod) {}), "is there a Master?"},
		{pending(func(p *corev1.Pod) { p.Spec.NodeName = "one" }), "is on one"},
		{pending(func(p *corev1.Pod) { p.Spec.SchedulerName = "mine" }), "a scheduler called mine"},
		{pending(func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "example.org/x"}} }), "example.org/x"},
		{pending(func(p *corev1.Pod) { p.Status.NominatedNodeName = "one" }), "until less urgent pods have left one"},
		{pending(func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }), "has ended (Succeeded)"},
		{pending(func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Message: "0/3 nodes are available: 3 Insufficient cpu."}}
		}), "is pending: 0/3 nodes are available: 3 Insufficient cpu"},
	} {
		if got := state(c.pod); !strings.Contains(got, c.want) {
			t.Errorf("%q lacks %q", got, c.want)
		}
	}
}
