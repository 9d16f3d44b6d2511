package api

import (
	"fmt"
	"strings"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func autoscalerColumns() []metav1.TableColumnDefinition {
	spec := autoscalingv2.HorizontalPodAutoscalerSpec{}.SwaggerDoc()
	return []metav1.TableColumnDefinition{
		nameColumn(),
		column("Reference", spec["scaleTargetRef"]),
		column("Targets", spec["metrics"]),
		column("MinPods", spec["minReplicas"]),
		column("MaxPods", spec["maxReplicas"]),
		column("Replicas", autoscalingv2.HorizontalPodAutoscalerStatus{}.SwaggerDoc()["currentReplicas"]),
		ageColumn(),
	}
}

func autoscalerCells(a *autoscalingv2.HorizontalPodAutoscaler, now time.Time) []any {
	least := unsetText
	if a.Spec.MinReplicas != nil {
		least = fmt.Sprint(*a.Spec.MinReplicas)
	}
	return []any{
		a.Name, a.Spec.ScaleTargetRef.Kind + "/" + a.Spec.ScaleTargetRef.Name, metricsText(a.Spec.Metrics, a.Status.CurrentMetrics), least,
		int64(a.Spec.MaxReplicas), int64(a.Status.CurrentReplicas), since(a.CreationTimestamp, now),
	}
}

// metricsText shows two metrics at most, each as what is and what should be.
func metricsText(metrics []autoscalingv2.MetricSpec, current []autoscalingv2.MetricStatus) string {
	const most = 2
	if len(metrics) == 0 {
		return none
	}
	var all []string
	for i := range metrics {
		var is autoscalingv2.MetricStatus
		if i < len(current) {
			is = current[i]
		}
		all = append(all, metricText(&metrics[i], &is))
	}
	if len(all) > most {
		return fmt.Sprintf("%s + %d more...", strings.Join(all[:most], ", "), len(all)-most)
	}
	return strings.Join(all, ", ")
}

// metricText is lenient with what no validated object has: a type without its source.
func metricText(m *autoscalingv2.MetricSpec, is *autoscalingv2.MetricStatus) string {
	switch {
	case m.Type == autoscalingv2.ExternalMetricSourceType && m.External != nil:
		var now *autoscalingv2.MetricValueStatus
		if is.External != nil {
			now = &is.External.Current
		}
		return valueText(&m.External.Target, now)
	case m.Type == autoscalingv2.ObjectMetricSourceType && m.Object != nil:
		var now *autoscalingv2.MetricValueStatus
		if is.Object != nil {
			now = &is.Object.Current
		}
		return valueText(&m.Object.Target, now)
	case m.Type == autoscalingv2.PodsMetricSourceType && m.Pods != nil:
		now := unknownText
		if is.Pods != nil {
			now = quantityText(is.Pods.Current.AverageValue)
		}
		return now + "/" + quantityText(m.Pods.Target.AverageValue)
	case m.Type == autoscalingv2.ResourceMetricSourceType && m.Resource != nil:
		var now *autoscalingv2.MetricValueStatus
		if is.Resource != nil {
			now = &is.Resource.Current
		}
		return string(m.Resource.Name) + ": " + utilizationText(&m.Resource.Target, now)
	case m.Type == autoscalingv2.ContainerResourceMetricSourceType && m.ContainerResource != nil:
		var now *autoscalingv2.MetricValueStatus
		if is.ContainerResource != nil {
			now = &is.ContainerResource.Current
		}
		return string(m.ContainerResource.Name) + ": " + utilizationText(&m.ContainerResource.Target, now)
	}
	return "<unknown type>"
}

const unknownText = "<unknown>"

func quantityText(q *resource.Quantity) string {
	if q == nil {
		return "<nil>"
	}
	return q.String()
}

func valueText(want *autoscalingv2.MetricTarget, is *autoscalingv2.MetricValueStatus) string {
	now := unknownText
	if want.AverageValue != nil {
		if is != nil && is.AverageValue != nil {
			now = is.AverageValue.String()
		}
		return now + "/" + want.AverageValue.String() + " (avg)"
	}
	if is != nil {
		now = quantityText(is.Value)
	}
	return now + "/" + quantityText(want.Value)
}

func utilizationText(want *autoscalingv2.MetricTarget, is *autoscalingv2.MetricValueStatus) string {
	now, target := unknownText, "<auto>"
	if want.AverageValue != nil {
		if is != nil {
			now = quantityText(is.AverageValue)
		}
		return now + "/" + want.AverageValue.String()
	}
	if is != nil && is.AverageUtilization != nil {
		now = fmt.Sprintf("%d%%", *is.AverageUtilization)
	}
	if want.AverageUtilization != nil {
		target = fmt.Sprintf("%d%%", *want.AverageUtilization)
	}
	return now + "/" + target
}
