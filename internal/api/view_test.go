package api

import (
	"encoding/json"
	"testing"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/randfill"
)

// What goes through another version and comes back must be what it was.
func TestNothingIsLostInAnotherVersion(t *testing.T) {
	for _, k := range Kinds() {
		if k.Stored == nil {
			continue
		}
		for seed := range int64(50) {
			o := k.New()
			fill := randfill.NewWithSeed(seed).NilChance(0.3).NumElements(0, 3).Funcs(
				func(q *resource.Quantity, c randfill.Continue) {
					*q = *resource.NewQuantity(int64(c.Intn(1000)), resource.DecimalSI)
				},
				func(m *metav1.ObjectMeta, _ randfill.Continue) {
					*m = metav1.ObjectMeta{Name: "n", Annotations: map[string]string{"a": "b"}}
				},
				func(s *autoscalingv1.HorizontalPodAutoscalerStatus, c randfill.Continue) {
					c.FillNoCustom(s)
					s.CurrentCPUUtilizationPercentage = nil // comes back with an annotation beside it
				},
			)
			fill.Fill(o)
			o.GetObjectKind().SetGroupVersionKind(k.GroupVersionKind)
			back := k.FromStored(k.ToStored(o))
			back.GetObjectKind().SetGroupVersionKind(k.GroupVersionKind)
			if !equality.Semantic.DeepEqual(o, back) {
				a, _ := json.Marshal(o)
				b, _ := json.Marshal(back)
				t.Fatalf("%s, seed %d:\n%s\nbecame\n%s", k.GroupVersionKind, seed, a, b)
			}
		}
	}
}

func TestAutoscalersInTheirOldVersion(t *testing.T) {
	three, share := int32(3), int32(60)
	stored := &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Name: "h"},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			MinReplicas: &three, MaxReplicas: 5,
			Metrics: []autoscalingv2.MetricSpec{
				{Type: autoscalingv2.PodsMetricSourceType, Pods: &autoscalingv2.PodsMetricSource{
					Metric: autoscalingv2.MetricIdentifier{Name: "hits"}, Target: average(resource.NewQuantity(7, resource.DecimalSI)),
				}},
				cpuMetric(share),
			},
			Behavior: &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: &three}},
		},
	}
	old := autoscalerToV1(stored)
	if old.Spec.TargetCPUUtilizationPercentage == nil || *old.Spec.TargetCPUUtilizationPercentage != 60 ||
		old.Annotations[metricsNote] != `[{"type":"Pods","pods":{"metricName":"hits","targetAverageValue":"7"}}]` || old.Annotations[behaviorNote] == "" {
		t.Errorf("got %+v", old)
	}
	if len(stored.Annotations) > 0 {
		t.Error("the stored object was changed")
	}
	fresh := &autoscalingv1.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Name: "h"}, Spec: autoscalingv1.HorizontalPodAutoscalerSpec{MaxReplicas: 5}}
	HorizontalPodAutoscalersV1.Default(fresh)
	if *fresh.Spec.MinReplicas != 1 || *fresh.Spec.TargetCPUUtilizationPercentage != 80 || fresh.Kind == "" {
		t.Errorf("defaults %+v", fresh)
	}
	odd := fresh.DeepCopy()
	odd.Annotations = map[string]string{metricsNote: "no JSON"}
	if again := autoscalerToV1(autoscalerToV2(odd)); again.Annotations[metricsNote] != "no JSON" {
		t.Errorf("an annotation that is no metrics became %v", again.Annotations)
	}
}

func TestEventsUnderTheirNewNames(t *testing.T) {
	e := &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{Name: "e", Namespace: "n"}, Note: "hello", Regarding: corev1.ObjectReference{Kind: "Pod", Name: "p", Namespace: "elsewhere"},
	}
	if c := eventToCore(e); c.Message != "hello" || c.InvolvedObject.Name != "p" {
		t.Errorf("got %+v", c)
	}
	if set := EventsV1.Fields(e); set["regarding.name"] != "p" || set.Has("involvedObject.name") {
		t.Errorf("fields %v", set)
	}
	if errs := EventsV1.Validate(e); len(errs) != 1 {
		t.Errorf("about another namespace: %v", errs)
	}
}
