package master_test

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"shoal/internal/api"
	"shoal/internal/client"
)

func budget(least, missing string) *policyv1.PodDisruptionBudget {
	b := &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "web"},
		Spec:       policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}},
	}
	if least != "" {
		b.Spec.MinAvailable = new(intstr.Parse(least))
	}
	if missing != "" {
		b.Spec.MaxUnavailable = new(intstr.Parse(missing))
	}
	return b
}

func (c *cluster) budget() policyv1.PodDisruptionBudgetStatus {
	c.Helper()
	return get[*policyv1.PodDisruptionBudget](c, api.PodDisruptionBudgets, metav1.NamespaceDefault, "web").Status
}

// TestABudgetSaysHowManyMayGo: of ten ready pods, by Kubernetes' rounding.
func TestABudgetSaysHowManyMayGo(t *testing.T) {
	for _, b := range []struct {
		least, missing   string
		desired, allowed int32
	}{
		{"7", "", 7, 3},
		{"25%", "", 3, 7},
		{"0", "", 0, 10},
		{"100%", "", 10, 0},
		{"12", "", 12, 0},
		{"", "2", 8, 2},
		{"", "25%", 7, 3},
		{"", "0", 10, 0},
		{"", "100%", 0, 10},
	} {
		t.Run(fmt.Sprint(b.least, "/", b.missing), func(t *testing.T) {
			inCluster(t, 2, func(c *cluster) {
				c.create(api.Deployments, deployment("web", 10))
				c.create(api.PodDisruptionBudgets, budget(b.least, b.missing))
				c.settle()
				s := c.budget()
				if s.ExpectedPods != 10 || s.CurrentHealthy != 10 || s.DesiredHealthy != b.desired || s.DisruptionsAllowed != b.allowed || s.ObservedGeneration != 1 {
					t.Errorf("status %+v, want %d desired, %d allowed", s, b.desired, b.allowed)
				}
				want := metav1.ConditionFalse
				if b.allowed > 0 {
					want = metav1.ConditionTrue
				}
				if len(s.Conditions) != 1 || s.Conditions[0].Status != want {
					t.Errorf("conditions %+v", s.Conditions)
				}
			})
		})
	}
}

func TestABudgetFollowsItsPods(t *testing.T) {
	inCluster(t, 2, func(c *cluster) {
		c.create(api.PodDisruptionBudgets, budget("", "1"))
		c.settle()
		if s := c.budget(); s.DisruptionsAllowed != 0 || s.ExpectedPods != 0 {
			t.Errorf("of no pods: %+v", s)
		}
		c.create(api.Deployments, deployment("web", 4))
		c.settle()
		// What an eviction was allowed for counts as gone, for a while.
		b := get[*policyv1.PodDisruptionBudget](c, api.PodDisruptionBudgets, "default", "web")
		b.Status.DisruptedPods = map[string]metav1.Time{c.pods()[0].Name: metav1.Now()}
		b.Status.DisruptionsAllowed--
		if _, err := c.Update(c.Context(), api.PodDisruptionBudgets, b, client.UpdateOptions{Subresource: "status"}); err != nil {
			t.Fatal(err)
		}
		c.settle()
		if s := c.budget(); s.CurrentHealthy != 3 || s.DisruptionsAllowed != 0 {
			t.Errorf("while one goes: %+v", s)
		}
		c.pass(2 * time.Minute)
		if s := c.budget(); s.CurrentHealthy != 4 || s.DisruptionsAllowed != 1 || len(s.DisruptedPods) != 0 {
			t.Errorf("after one has not gone: %+v", s)
		}
		c.alter("web", replicas(2))
		if s := c.budget(); s.ExpectedPods != 2 || s.DesiredHealthy != 1 || s.DisruptionsAllowed != 1 {
			t.Errorf("of two: %+v", s)
		}
		c.alter("web", version(2), broken(true))
		if s := c.budget(); s.ExpectedPods != 2 || s.CurrentHealthy != 2 {
			t.Errorf("with a new pod that is not ready: %+v", s)
		}
	})
}

func TestABudgetOfBarePodsCannotBeAShare(t *testing.T) {
	inCluster(t, 1, func(c *cluster) {
		t := deployment("web", 1).Spec.Template
		c.create(api.Pods, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "bare", Labels: t.Labels}, Spec: t.Spec})
		c.create(api.PodDisruptionBudgets, budget("50%", ""))
		c.settle()
		if s := c.budget(); s.DisruptionsAllowed != 0 || len(s.Conditions) != 1 || s.Conditions[0].Reason != policyv1.SyncFailedReason {
			c.Errorf("status %+v", s)
		}
	})
}
