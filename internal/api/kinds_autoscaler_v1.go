package api

import (
	"encoding/json"
	"maps"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
)

// HorizontalPodAutoscalersV1 is the old version of HorizontalPodAutoscalers. What it has no fields for is in annotations.
var HorizontalPodAutoscalersV1 = row[autoscalingv1.HorizontalPodAutoscaler, autoscalingv1.HorizontalPodAutoscalerList](autoscalingv1.SchemeGroupVersion, "HorizontalPodAutoscaler", "horizontalpodautoscalers", "hpa").with(autoscalerV1Row)

func autoscalerV1Row(k *Kind) {
	viewOf(k, HorizontalPodAutoscalers, autoscalerToV2, autoscalerToV1)
	k.Columns, k.Cells = autoscalerColumns(), func(o Object, now time.Time) []any {
		return autoscalerCells(autoscalerToV2(o.(*autoscalingv1.HorizontalPodAutoscaler)), now)
	}
}

// The annotations, which clients know.
const (
	metricsNote        = "autoscaling.alpha.kubernetes.io/metrics"
	currentMetricsNote = "autoscaling.alpha.kubernetes.io/current-metrics"
	conditionsNote     = "autoscaling.alpha.kubernetes.io/conditions"
	behaviorNote       = "autoscaling.alpha.kubernetes.io/behavior"
)

func autoscalerToV2(a *autoscalingv1.HorizontalPodAutoscaler) *autoscalingv2.HorizontalPodAutoscaler {
	out := &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: *a.ObjectMeta.DeepCopy()}
	s, t := &a.Spec, &out.Spec
	t.ScaleTargetRef = autoscalingv2.CrossVersionObjectReference(s.ScaleTargetRef)
	t.MinReplicas, t.MaxReplicas = s.MinReplicas, s.MaxReplicas
	if s.TargetCPUUtilizationPercentage != nil {
		t.Metrics = append(t.Metrics, cpuMetric(*s.TargetCPUUtilizationPercentage))
	}
	var metrics []autoscalingv1.MetricSpec
	if unnote(&out.Annotations, metricsNote, &metrics) {
		for i := range metrics {
			t.Metrics = append(t.Metrics, metricToV2(&metrics[i]))
		}
	}
	unnote(&out.Annotations, behaviorNote, &t.Behavior)
	is, now := &a.Status, &out.Status
	now.ObservedGeneration, now.LastScaleTime = is.ObservedGeneration, is.LastScaleTime
	now.CurrentReplicas, now.DesiredReplicas = is.CurrentReplicas, is.DesiredReplicas
	var current []autoscalingv1.MetricStatus
	unnote(&out.Annotations, currentMetricsNote, &current)
	hasCPU := false
	for i := range current {
		if r := current[i].Resource; r != nil {
			value := r.CurrentAverageValue
			hasCPU = hasCPU || r.Name == corev1.ResourceCPU
			now.CurrentMetrics = append(now.CurrentMetrics, resourceStatus(r.Name, autoscalingv2.MetricValueStatus{
				AverageUtilization: r.CurrentAverageUtilization, AverageValue: &value,
			}))
		}
	}
	if cpu := is.CurrentCPUUtilizationPercentage; cpu != nil && !hasCPU {
		now.CurrentMetrics = append(now.CurrentMetrics, resourceStatus(corev1.ResourceCPU, autoscalingv2.MetricValueStatus{AverageUtilization: cpu}))
	}
	unnote(&out.Annotations, conditionsNote, &now.Conditions)
	return out
}

func autoscalerToV1(a *autoscalingv2.HorizontalPodAutoscaler) *autoscalingv1.HorizontalPodAutoscaler {
	out := &autoscalingv1.HorizontalPodAutoscaler{ObjectMeta: *a.ObjectMeta.DeepCopy()}
	s, t := &a.Spec, &out.Spec
	t.ScaleTargetRef = autoscalingv1.CrossVersionObjectReference(s.ScaleTargetRef)
	t.MinReplicas, t.MaxReplicas = s.MinReplicas, s.MaxReplicas
	var metrics []autoscalingv1.MetricSpec
	for i := range s.Metrics {
		m := &s.Metrics[i]
		if t.TargetCPUUtilizationPercentage == nil && isCPUUtilization(m) {
			t.TargetCPUUtilizationPercentage = m.Resource.Target.AverageUtilization
			continue
		}
		metrics = append(metrics, metricToV1(m))
	}
	note(&out.Annotations, metricsNote, metrics, len(metrics) > 0)
	note(&out.Annotations, behaviorNote, s.Behavior, s.Behavior != nil)
	is, now := &a.Status, &out.Status
	now.ObservedGeneration, now.LastScaleTime = is.ObservedGeneration, is.LastScaleTime
	now.CurrentReplicas, now.DesiredReplicas = is.CurrentReplicas, is.DesiredReplicas
	var current []autoscalingv1.MetricStatus
	for i := range is.CurrentMetrics {
		r := is.CurrentMetrics[i].Resource
		if r == nil {
			continue
		}
		v1 := &autoscalingv1.ResourceMetricStatus{Name: r.Name, CurrentAverageUtilization: r.Current.AverageUtilization}
		if r.Current.AverageValue != nil {
			v1.CurrentAverageValue = *r.Current.AverageValue
		}
		current = append(current, autoscalingv1.MetricStatus{Type: autoscalingv1.ResourceMetricSourceType, Resource: v1})
		if r.Name == corev1.ResourceCPU && r.Current.AverageUtilization != nil {
			now.CurrentCPUUtilizationPercentage = r.Current.AverageUtilization
		}
	}
	note(&out.Annotations, currentMetricsNote, current, len(current) > 0)
	note(&out.Annotations, conditionsNote, is.Conditions, len(is.Conditions) > 0)
	return out
}

// note keeps a value in an annotation.
func note(annotations *map[string]string, name string, v any, wanted bool) {
	if !wanted {
		return
	}
	b, err := json.Marshal(v)
	if err != nil {
		return
	}
	*annotations = maps.Clone(*annotations)
	if *annotations == nil {
		*annotations = map[string]string{}
	}
	(*annotations)[name] = string(b)
}

// unnote takes a value out of an annotation. What is no such value stays an annotation like any other.
func unnote(annotations *map[string]string, name string, v any) bool {
	text, there := (*annotations)[name]
	if !there || json.Unmarshal([]byte(text), v) != nil {
		return false
	}
	*annotations = maps.Clone(*annotations)
	if delete(*annotations, name); len(*annotations) == 0 {
		*annotations = nil
	}
	return true
}

func cpuMetric(percent int32) autoscalingv2.MetricSpec {
	return autoscalingv2.MetricSpec{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
		Name: corev1.ResourceCPU, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &percent},
	}}
}

func isCPUUtilization(m *autoscalingv2.MetricSpec) bool {
	return m.Type == autoscalingv2.ResourceMetricSourceType && m.Resource != nil && m.Resource.Name == corev1.ResourceCPU && m.Resource.Target.AverageUtilization != nil
}

func resourceStatus(name corev1.ResourceName, v autoscalingv2.MetricValueStatus) autoscalingv2.MetricStatus {
	return autoscalingv2.MetricStatus{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricStatus{Name: name, Current: v}}
}
