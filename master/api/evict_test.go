package api_test

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	shoalapi "shoal/internal/api"
	"shoal/internal/client"
	"shoal/master/api"
	"shoal/master/registry"
	"shoal/master/registry/registrytest"
)

// evicting returns a server with running, ready pods a, b and c of app=web, and what evicts one.
func evicting(t *testing.T) (*registry.Registry, func(name, options string) (int, metav1.Status)) {
	t.Helper()
	reg, _ := registrytest.New(t)
	if _, err := reg.Create(t.Context(), shoalapi.Namespaces, namespace("ns"), client.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b", "c"} {
		o, err := reg.Create(t.Context(), shoalapi.Pods, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, Labels: map[string]string{"app": "web"}},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}},
		}, client.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		pod := o.(*corev1.Pod)
		pod.Status.Phase = corev1.PodRunning
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		if _, err := reg.Update(t.Context(), shoalapi.Pods, pod, client.UpdateOptions{Subresource: "status"}); err != nil {
			t.Fatal(err)
		}
	}
	srv := httptest.NewServer(api.New(api.Config{Registry: reg, Auth: everyone{}}))
	t.Cleanup(srv.Close)
	return reg, func(name, options string) (int, metav1.Status) {
		t.Helper()
		code, body := post(t, srv.URL+"/api/v1/namespaces/ns/pods/"+name+"/eviction"+options, `{"kind":"Eviction","apiVersion":"policy/v1","metadata":{"name":"`+name+`"},"deleteOptions":{"gracePeriodSeconds":0}}`)
		var st metav1.Status
		if err := json.Unmarshal([]byte(body), &st); err != nil {
			t.Fatal(err, body)
		}
		return code, st
	}
}

// budget makes one over app=web and sets its status.
func budget(t *testing.T, reg *registry.Registry, name string, st policyv1.PodDisruptionBudgetStatus) {
	t.Helper()
	o, err := reg.Create(t.Context(), shoalapi.PodDisruptionBudgets, &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name},
		Spec:       policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}},
	}, client.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	b := o.(*policyv1.PodDisruptionBudget)
	b.Status = st
	if _, err := reg.Update(t.Context(), shoalapi.PodDisruptionBudgets, b, client.UpdateOptions{Subresource: "status"}); err != nil {
		t.Fatal(err)
	}
}

func exists(t *testing.T, reg *registry.Registry, name string) bool {
	t.Helper()
	_, err := reg.Get(t.Context(), shoalapi.Pods, client.Key{Namespace: "ns", Name: name}, client.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		t.Fatal(err)
	}
	return err == nil
}

func TestEvictionWithoutBudget(t *testing.T) {
	t.Parallel()
	reg, evict := evicting(t)
	if code, st := evict("a", ""); code != 201 || st.Status != metav1.StatusSuccess || exists(t, reg, "a") {
		t.Errorf("%d %+v", code, st)
	}
	if code, _ := evict("a", ""); code != 404 {
		t.Errorf("a pod that is gone: %d", code)
	}
	if code, _ := evict("b", "?dryRun=All"); code != 201 || !exists(t, reg, "b") {
		t.Errorf("dry run: %d", code)
	}
}

// TestEvictionsOfOldClients: kubectl 1.20 drains with policy/v1beta1.
func TestEvictionsOfOldClients(t *testing.T) {
	reg, _ := evicting(t)
	srv := httptest.NewServer(api.New(api.Config{Registry: reg, Auth: everyone{}}))
	t.Cleanup(srv.Close)
	for version, want := range map[string]int{"v1beta1": 201, "v1alpha1": 400} {
		code, body := post(t, srv.URL+"/api/v1/namespaces/ns/pods/a/eviction", `{"kind":"Eviction","apiVersion":"policy/`+version+`","metadata":{"name":"a"},"deleteOptions":{"gracePeriodSeconds":0}}`)
		if code != want {
			t.Errorf("%s: %d %s", version, code, body)
		}
	}
}

func TestABudgetStopsEvictions(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		status policyv1.PodDisruptionBudgetStatus
		says   string
		retry  int32
	}{
		"not looked at yet": {policyv1.PodDisruptionBudgetStatus{DisruptionsAllowed: 1}, "The disruption budget one is still being processed by the server.", 10},
		"none left": {
			policyv1.PodDisruptionBudgetStatus{ObservedGeneration: 1, DesiredHealthy: 3, CurrentHealthy: 3, ExpectedPods: 3},
			"The disruption budget one needs 3 healthy pods and has 3 currently", 0,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reg, evict := evicting(t)
			budget(t, reg, "one", tc.status)
			code, st := evict("a", "")
			if code != 429 || st.Reason != metav1.StatusReasonTooManyRequests || len(st.Details.Causes) != 1 || st.Details.RetryAfterSeconds != tc.retry ||
				st.Details.Causes[0].Type != policyv1.DisruptionBudgetCause || st.Details.Causes[0].Message != tc.says {
				t.Errorf("%d %+v", code, st)
			}
			if !exists(t, reg, "a") {
				t.Error("the pod is gone")
			}
		})
	}
}

func TestTwoBudgetsAreTooMany(t *testing.T) {
	t.Parallel()
	reg, evict := evicting(t)
	budget(t, reg, "one", policyv1.PodDisruptionBudgetStatus{ObservedGeneration: 1, DisruptionsAllowed: 1})
	budget(t, reg, "two", policyv1.PodDisruptionBudgetStatus{ObservedGeneration: 1, DisruptionsAllowed: 1})
	if code, st := evict("a", ""); code != 500 || !strings.Contains(st.Message, "more than one PodDisruptionBudget") || !exists(t, reg, "a") {
		t.Errorf("%d %+v", code, st)
	}
}

// Evictions that come at once must not take more than the budget has.
func TestABudgetIsNotOverdrawn(t *testing.T) {
	t.Parallel()
	reg, evict := evicting(t)
	budget(t, reg, "one", policyv1.PodDisruptionBudgetStatus{ObservedGeneration: 1, DisruptionsAllowed: 1, DesiredHealthy: 2, CurrentHealthy: 3, ExpectedPods: 3})
	var allowed atomic.Int32
	var all sync.WaitGroup
	for _, name := range []string{"a", "b", "c"} {
		all.Go(func() {
			if code, _ := evict(name, ""); code == 201 {
				allowed.Add(1)
			}
		})
	}
	all.Wait()
	left := 0
	for _, name := range []string{"a", "b", "c"} {
		if exists(t, reg, name) {
			left++
		}
	}
	o, err := reg.Get(t.Context(), shoalapi.PodDisruptionBudgets, client.Key{Namespace: "ns", Name: "one"}, client.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	st := o.(*policyv1.PodDisruptionBudget).Status
	if allowed.Load() != 1 || left != 2 || st.DisruptionsAllowed != 0 || len(st.DisruptedPods) != 1 || len(st.Conditions) != 1 || st.Conditions[0].Reason != policyv1.InsufficientPodsReason {
		t.Errorf("%d evictions, %d pods left, %+v", allowed.Load(), left, st)
	}
}

// A pod that serves nobody disrupts nothing.
func TestEvictionOfUnhealthyPods(t *testing.T) {
	t.Parallel()
	always := policyv1.AlwaysAllow
	for name, tc := range map[string]struct {
		phase   corev1.PodPhase
		policy  *policyv1.UnhealthyPodEvictionPolicyType
		healthy int32
		gone    bool
	}{
		"finished":                            {phase: corev1.PodFailed, gone: true},
		"not started":                         {phase: corev1.PodPending, gone: true},
		"unready, enough others":              {phase: corev1.PodRunning, healthy: 2, gone: true},
		"unready, not enough others":          {phase: corev1.PodRunning, healthy: 1},
		"unready, not enough, always allowed": {phase: corev1.PodRunning, healthy: 1, policy: &always, gone: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reg, evict := evicting(t)
			budget(t, reg, "one", policyv1.PodDisruptionBudgetStatus{ObservedGeneration: 1, DesiredHealthy: 2, CurrentHealthy: tc.healthy, ExpectedPods: 3})
			if tc.policy != nil {
				patch := client.Patch{Type: "application/merge-patch+json", Data: []byte(`{"spec":{"unhealthyPodEvictionPolicy":"AlwaysAllow"}}`)}
				if _, err := reg.Patch(t.Context(), shoalapi.PodDisruptionBudgets, client.Key{Namespace: "ns", Name: "one"}, patch, client.PatchOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			patch := client.Patch{Type: "application/merge-patch+json", Data: []byte(`{"status":{"phase":"` + string(tc.phase) + `","conditions":[]}}`)}
			if _, err := reg.Patch(t.Context(), shoalapi.Pods, client.Key{Namespace: "ns", Name: "a"}, patch, client.PatchOptions{Subresource: "status"}); err != nil {
				t.Fatal(err)
			}
			if code, st := evict("a", ""); exists(t, reg, "a") == tc.gone {
				t.Errorf("%d %+v", code, st)
			}
		})
	}
}
