package master_test

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

// Kubernetes, "ReplicaSet": pods that another controller owns are not acquired, whatever the selector matches.
func TestSelectorsThatMatchEverything(t *testing.T) {
	inCluster(t, 2, func(c *cluster) {
		greedy := func(name string, n int32) *appsv1.ReplicaSet {
			return &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: appsv1.ReplicaSetSpec{
				Replicas: &n, Selector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: metav1.LabelSelectorOpExists}}},
				Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": name}}, Spec: podSpec()},
			}}
		}
		c.create(api.ReplicationControllers, newController("web", 3))
		c.create(api.ReplicaSets, greedy("one", 2))
		c.create(api.ReplicaSets, greedy("other", 4))
		c.create(api.PodDisruptionBudgets, &policyv1.PodDisruptionBudget{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "all"}, Spec: policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{}},
		})
		c.settle()
		before := c.rev()
		c.settle()
		if after := c.rev(); after != before {
			t.Errorf("they write still: %d", after-before)
		}
		count := map[string]int{}
		for _, p := range c.pods() {
			ref := metav1.GetControllerOf(p)
			if ref == nil || ref.Name != p.Labels["app"] {
				t.Errorf("pod %s of %s is controlled by %v", p.Name, p.Labels["app"], ref)
			}
			count[p.Labels["app"]]++
		}
		if count["web"] != 3 || count["one"] != 2 || count["other"] != 4 {
			t.Errorf("pods %v", count)
		}
		// An empty selector of a budget is all pods of its namespace.
		if s := get[*policyv1.PodDisruptionBudget](c, api.PodDisruptionBudgets, "default", "all").Status; s.ExpectedPods != 9 || s.CurrentHealthy != 9 {
			t.Errorf("budget %+v", s)
		}
		// What nobody owns, one of them takes, and gives up one for it.
		orphan := user("orphan")
		orphan.Labels = map[string]string{"app": "orphan"}
		c.create(api.Pods, orphan)
		c.settle()
		if n := len(c.pods()); n != 9 {
			t.Errorf("%d pods", n)
		}
	})
}

func TestSelectorsThatMatchNothing(t *testing.T) {
	inCluster(t, 1, func(c *cluster) {
		c.create(api.Services, newService("nobody"))
		c.create(api.PodDisruptionBudgets, &policyv1.PodDisruptionBudget{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "none"},
			Spec:       policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "nobody"}}},
		})
		c.create(api.Pods, user("alone"))
		c.settle()
		if s := get[*policyv1.PodDisruptionBudget](c, api.PodDisruptionBudgets, "default", "none").Status; s.ExpectedPods != 0 || s.DisruptionsAllowed != 0 {
			t.Errorf("budget %+v", s)
		}
		l, err := c.List(c.Context(), api.EndpointSlices, client.ListOptions{Namespace: "default"})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range l.Items {
			if s := o.(*discoveryv1.EndpointSlice); s.Labels[discoveryv1.LabelServiceName] == "nobody" && len(s.Endpoints) > 0 {
				t.Errorf("slice %+v", s.Endpoints)
			}
		}
	})
}
