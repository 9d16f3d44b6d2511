package registry_test

import (
	"testing"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/master/registry/registrytest"
)

// Both versions of a kind are one object: what one writes, the other's watches show.
func TestVersionsShareTheirObjects(t *testing.T) {
	r, _ := registrytest.New(t)
	w, err := r.Watch(t.Context(), api.HorizontalPodAutoscalers, client.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	old := &autoscalingv1.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "b"},
		Spec: autoscalingv1.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv1.CrossVersionObjectReference{Kind: "Deployment", Name: "d", APIVersion: "apps/v1"}, MaxReplicas: 5,
		},
	}
	made, err := r.Create(t.Context(), api.HorizontalPodAutoscalersV1, old, client.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if made.(*autoscalingv1.HorizontalPodAutoscaler).APIVersion != "autoscaling/v1" {
		t.Errorf("made %+v", made)
	}
	shown, err := w.Next(t.Context())
	if err != nil || len(shown) != 1 {
		t.Fatal(shown, err)
	}
	a := shown[0].Object.(*autoscalingv2.HorizontalPodAutoscaler)
	if a.APIVersion != "autoscaling/v2" || len(a.Spec.Metrics) != 1 || a.UID != made.(api.Object).GetUID() {
		t.Errorf("shown %+v", a)
	}
	// An update through one version keeps what only the other can say.
	patch(t, r, api.HorizontalPodAutoscalers, types.MergePatchType, `{"spec":{"behavior":{"scaleUp":{"stabilizationWindowSeconds":7}}}}`, client.PatchOptions{})
	o := patch(t, r, api.HorizontalPodAutoscalersV1, types.MergePatchType, `{"spec":{"targetCPUUtilizationPercentage":33}}`, client.PatchOptions{})
	if *o.(*autoscalingv1.HorizontalPodAutoscaler).Spec.TargetCPUUtilizationPercentage != 33 {
		t.Errorf("patched %+v", o)
	}
	o = patch(t, r, api.HorizontalPodAutoscalersV1, types.ApplyPatchType, `{"apiVersion":"autoscaling/v1","kind":"HorizontalPodAutoscaler","metadata":{"name":"b"},"spec":{"maxReplicas":9}}`, client.PatchOptions{FieldManager: "me", Force: true})
	if o.(*autoscalingv1.HorizontalPodAutoscaler).Spec.MaxReplicas != 9 {
		t.Errorf("applied %+v", o)
	}
	got, err := r.Get(t.Context(), api.HorizontalPodAutoscalers, client.Key{Namespace: "default", Name: "b"}, client.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if s := got.(*autoscalingv2.HorizontalPodAutoscaler).Spec; *s.Behavior.ScaleUp.StabilizationWindowSeconds != 7 || *s.Metrics[0].Resource.Target.AverageUtilization != 33 || s.MaxReplicas != 9 || got.GetGeneration() != 4 {
		t.Errorf("stored %+v, generation %d", s, got.GetGeneration())
	}
}

func TestEventsAreWrittenUnderBothNames(t *testing.T) {
	r, _ := registrytest.New(t)
	e := &eventsv1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "e"}, Note: "hello", Reason: "R", Type: "Normal"}
	e.Regarding.Namespace = "default"
	if _, err := r.Create(t.Context(), api.EventsV1, e, client.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, k := range []*api.Kind{api.Events, api.EventsV1} {
		if l, err := r.List(t.Context(), k, client.ListOptions{}); err != nil || len(l.Items) != 1 {
			t.Errorf("%s: %v, %v", k.GroupVersion(), l, err)
		}
	}
}
