package master_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/api"
	"shoal/internal/client"
)

// loads is what all pods together use of the CPU, in thousandths of a core; they share it equally.
type loads struct {
	mu     sync.Mutex
	total  int
	silent bool // no machine answers
}

func (c *cluster) use(millis int) {
	c.load.mu.Lock()
	defer c.load.mu.Unlock()
	c.load.total = millis
}

// usage answers for the machines.
func (c *cluster) usage(ctx context.Context, node string) (*api.Usage, error) {
	c.load.mu.Lock()
	total, silent := c.load.total, c.load.silent
	c.load.mu.Unlock()
	if silent {
		return nil, fmt.Errorf("%s does not answer", node)
	}
	l, err := c.List(ctx, api.Pods, client.ListOptions{})
	if err != nil {
		return nil, err
	}
	u := &api.Usage{At: time.Now(), Window: time.Second, Pods: map[types.UID]map[string]api.Used{}}
	ready := 0
	for _, o := range l.Items {
		if api.IsPodReady(o.(*corev1.Pod)) {
			ready++
		}
	}
	for _, o := range l.Items {
		if p := o.(*corev1.Pod); p.Spec.NodeName == node && api.IsPodReady(p) {
			u.Pods[p.UID] = map[string]api.Used{p.Spec.Containers[0].Name: {NanoCores: uint64(total) * 1e6 / uint64(ready), WorkingSet: 64 << 20}}
		}
	}
	return u, nil
}

func autoscaler(target string, change ...func(*autoscalingv2.HorizontalPodAutoscaler)) *autoscalingv2.HorizontalPodAutoscaler {
	a := &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: target},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: target},
			MinReplicas:    new(int32(1)), MaxReplicas: 10,
			Metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
				Name: corev1.ResourceCPU, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: new(int32(50))},
			}}},
		},
	}
	for _, f := range change {
		f(a)
	}
	return a
}

func requesting(cpu string) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) {
		d.Spec.Template.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}
	}
}

func (c *cluster) autoscaler(name string) *autoscalingv2.HorizontalPodAutoscaler {
	c.Helper()
	return get[*autoscalingv2.HorizontalPodAutoscaler](c, api.HorizontalPodAutoscalers, "default", name)
}

func (c *cluster) wantReplicas(name string, want int32, when string) {
	c.Helper()
	if got := *c.deployment(name).Spec.Replicas; got != want {
		c.Errorf("%s: %d replicas, want %d; %s", when, got, want, conditions(c.autoscaler(name)))
	}
}

func conditions(a *autoscalingv2.HorizontalPodAutoscaler) string {
	var out []string
	for _, c := range a.Status.Conditions {
		out = append(out, fmt.Sprintf("%s=%s %s: %s", c.Type, c.Status, c.Reason, c.Message))
	}
	return strings.Join(out, "; ")
}

// The defaults of https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/: up at once, by at most four pods or 100 %
// every 15 s, whichever is more; down to the highest of what was recommended within five minutes.
func TestReplicasFollowUse(t *testing.T) {
	inCluster(t, 4, func(c *cluster) {
		c.create(api.Deployments, deployment("web", 2, requesting("100m")))
		c.use(100)
		c.pass(6 * time.Minute) // until their use of CPU counts whatever they did when they began
		c.create(api.HorizontalPodAutoscalers, autoscaler("web"))
		c.settle()
		c.wantReplicas("web", 2, "50 % is the target")
		c.use(108)
		c.pass(16 * time.Second)
		c.wantReplicas("web", 2, "54 % is within the tolerance")
		c.use(160)
		c.pass(16 * time.Second)
		c.wantReplicas("web", 4, "80 % of two is 53 % of three, and that is more than 50")
		if s := c.autoscaler("web").Status; s.DesiredReplicas != 4 || s.LastScaleTime == nil || !strings.Contains(conditions(c.autoscaler("web")), "SucceededRescale") {
			t.Errorf("status %+v", s)
		}
		c.use(2000)
		c.pass(16 * time.Second)
		c.wantReplicas("web", 8, "at most double")
		c.pass(16 * time.Second)
		c.wantReplicas("web", 10, "at most ten")
		if got := conditions(c.autoscaler("web")); !strings.Contains(got, "TooManyReplicas") {
			t.Error(got)
		}
		c.use(100)
		c.pass(4 * time.Minute)
		c.wantReplicas("web", 10, "down takes five minutes")
		if got := conditions(c.autoscaler("web")); !strings.Contains(got, "ScaleDownStabilized") {
			t.Error(got)
		}
		c.pass(90 * time.Second)
		c.wantReplicas("web", 2, "after five minutes")
		if n := len(c.events("SuccessfulRescale")); n != 4 {
			t.Errorf("%d events of rescaling, want 4", n)
		}
	})
}

func TestTheNextMasterDoesNotScaleDownAtOnce(t *testing.T) {
	inCluster(t, 2, func(c *cluster) {
		c.create(api.Deployments, deployment("web", 6, requesting("100m")))
		c.use(300)
		c.pass(6 * time.Minute)
		c.create(api.HorizontalPodAutoscalers, autoscaler("web"))
		c.pass(time.Minute)
		c.wantReplicas("web", 6, "at its target")
		c.use(50)
		c.pass(4 * time.Minute)
		c.stop()
		c.lead(2)
		c.pass(4 * time.Minute)
		c.wantReplicas("web", 6, "four minutes after the Master changed")
		c.pass(2 * time.Minute)
		c.wantReplicas("web", 1, "after its own five minutes")
	})
}

func TestPoliciesBoundTheRate(t *testing.T) {
	inCluster(t, 4, func(c *cluster) {
		c.create(api.Deployments, deployment("web", 8, requesting("100m")))
		c.use(400)
		c.pass(6 * time.Minute)
		c.create(api.HorizontalPodAutoscalers, autoscaler("web", func(a *autoscalingv2.HorizontalPodAutoscaler) {
			a.Spec.Behavior = &autoscalingv2.HorizontalPodAutoscalerBehavior{
				ScaleUp: &autoscalingv2.HPAScalingRules{SelectPolicy: new(autoscalingv2.DisabledPolicySelect)},
				ScaleDown: &autoscalingv2.HPAScalingRules{
					StabilizationWindowSeconds: new(int32(0)),
					Policies:                   []autoscalingv2.HPAScalingPolicy{{Type: autoscalingv2.PodsScalingPolicy, Value: 2, PeriodSeconds: 60}, {Type: autoscalingv2.PercentScalingPolicy, Value: 50, PeriodSeconds: 60}},
					SelectPolicy:               new(autoscalingv2.MinChangePolicySelect),
				},
			}
		}))
		c.settle()
		c.use(50)
		c.pass(16 * time.Second)
		c.wantReplicas("web", 6, "two fewer, not half as many")
		c.pass(40 * time.Second)
		c.wantReplicas("web", 6, "within the minute")
		if got := conditions(c.autoscaler("web")); !strings.Contains(got, "ScaleDownLimit") {
			t.Error(got)
		}
		c.pass(20 * time.Second)
		c.wantReplicas("web", 4, "after a minute")
		c.use(4000)
		c.pass(time.Minute)
		c.wantReplicas("web", 4, "up is disabled")
	})
}

func TestWhatCannotBeScaledSaysWhy(t *testing.T) {
	inCluster(t, 2, func(c *cluster) {
		c.create(api.Deployments, deployment("web", 2, requesting("100m")))
		c.use(400)
		c.pass(6 * time.Minute)
		of := func(name string, change func(*autoscalingv2.HorizontalPodAutoscaler)) *autoscalingv2.HorizontalPodAutoscaler {
			return autoscaler("web", func(a *autoscalingv2.HorizontalPodAutoscaler) { a.Name = name }, change)
		}
		for _, one := range []struct {
			change func(*autoscalingv2.HorizontalPodAutoscaler)
			want   string
		}{
			{func(a *autoscalingv2.HorizontalPodAutoscaler) { a.Spec.ScaleTargetRef.Name = "none" }, "FailedGetScale"},
			{func(a *autoscalingv2.HorizontalPodAutoscaler) { a.Spec.ScaleTargetRef.Kind = "DaemonSet" }, "use a Deployment"},
			{func(a *autoscalingv2.HorizontalPodAutoscaler) {
				a.Spec.Metrics = []autoscalingv2.MetricSpec{{Type: autoscalingv2.PodsMetricSourceType, Pods: &autoscalingv2.PodsMetricSource{
					Metric: autoscalingv2.MetricIdentifier{Name: "requests"}, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: new(resource.MustParse("1"))},
				}}}
			}, "FailedGetPodsMetric"},
			{func(a *autoscalingv2.HorizontalPodAutoscaler) {
				a.Spec.Metrics[0].Resource.Name = corev1.ResourceMemory
			}, "missing request for memory in container main of Pod web-"},
			{func(a *autoscalingv2.HorizontalPodAutoscaler) {
				a.Spec.Metrics = append(a.Spec.Metrics, autoscalingv2.MetricSpec{Type: autoscalingv2.ContainerResourceMetricSourceType, ContainerResource: &autoscalingv2.ContainerResourceMetricSource{
					Name: corev1.ResourceCPU, Container: "other", Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: new(int32(50))},
				}})
			}, "ValidMetricFound"}, // the other one asks for more, and that counts
		} {
			c.create(api.HorizontalPodAutoscalers, of("a", one.change))
			c.settle()
			if got := conditions(c.autoscaler("a")); !strings.Contains(got, one.want) {
				t.Errorf("%q lacks %q", got, one.want)
			}
			if _, err := c.Delete(t.Context(), api.HorizontalPodAutoscalers, client.Key{Namespace: "default", Name: "a"}, client.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			c.settle()
		}
		c.load.mu.Lock()
		c.load.silent = true
		c.load.mu.Unlock()
		c.create(api.HorizontalPodAutoscalers, of("a", func(*autoscalingv2.HorizontalPodAutoscaler) {}))
		c.settle()
		if got := conditions(c.autoscaler("a")); !strings.Contains(got, "did not receive metrics for targeted pods") {
			t.Error(got)
		}
		c.create(api.HorizontalPodAutoscalers, of("b", func(*autoscalingv2.HorizontalPodAutoscaler) {}))
		c.pass(16 * time.Second)
		if got := conditions(c.autoscaler("a")); !strings.Contains(got, "controlled by multiple HPAs: [default/a default/b]") {
			t.Error(got)
		}
		c.alter("web", replicas(0))
		c.pass(16 * time.Second)
		if got := conditions(c.autoscaler("a")); !strings.Contains(got, "ScalingDisabled") {
			t.Error(got)
		}
		c.wantScale("web", 0)
	})
}

func (c *cluster) wantScale(name string, want int32) {
	c.Helper()
	if got := *c.deployment(name).Spec.Replicas; got != want {
		c.Errorf("%d replicas of %s, want %d", got, name, want)
	}
}
