package api

import (
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
)

// HorizontalPodAutoscalers is the row of autoscaling.
var HorizontalPodAutoscalers = row[autoscalingv2.HorizontalPodAutoscaler, autoscalingv2.HorizontalPodAutoscalerList](autoscalingv2.SchemeGroupVersion, "HorizontalPodAutoscaler", "horizontalpodautoscalers", "hpa").with(autoscalerRow)

func autoscalerRow(k *Kind) {
	k.Categories = []string{"all"}
	k.Subresources = []Subresource{{Name: "status", Kind: "HorizontalPodAutoscaler", Verbs: statusVerbs()}}
	k.Default = on(defaultAutoscaler)
	k.PrepareCreate = on(func(a *autoscalingv2.HorizontalPodAutoscaler) {
		a.Status = autoscalingv2.HorizontalPodAutoscalerStatus{}
	})
	k.PrepareUpdate = pair(func(updated, old *autoscalingv2.HorizontalPodAutoscaler) { updated.Status = old.Status })
	k.Validate, k.ValidateUpdate, k.ValidateStatus = check(validateAutoscaler), compare(validateAutoscalerUpdate), compare(validateAutoscalerStatus)
	k.CopyStatus = pair(func(to, from *autoscalingv2.HorizontalPodAutoscaler) { to.Status = *from.Status.DeepCopy() })
	k.Columns, k.Cells = autoscalerColumns(), cells(autoscalerCells)
	k.Generation = true
}

// defaultAutoscaler fills in what behaviour is not said, once anything of it is.
func defaultAutoscaler(a *autoscalingv2.HorizontalPodAutoscaler) {
	const utilization, period, percent, pods = 80, 15, 100, 4
	s := &a.Spec
	unset(&s.MinReplicas, 1)
	if len(s.Metrics) == 0 {
		cpu := int32(utilization)
		s.Metrics = []autoscalingv2.MetricSpec{{
			Type: autoscalingv2.ResourceMetricSourceType,
			Resource: &autoscalingv2.ResourceMetricSource{
				Name:   corev1.ResourceCPU,
				Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &cpu},
			},
		}}
	}
	if s.Behavior == nil {
		return
	}
	all := autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PercentScalingPolicy, Value: percent, PeriodSeconds: period}
	unset(&s.Behavior.ScaleUp, autoscalingv2.HPAScalingRules{})
	up := s.Behavior.ScaleUp
	unset(&up.StabilizationWindowSeconds, 0)
	unset(&up.SelectPolicy, autoscalingv2.MaxChangePolicySelect)
	if up.Policies == nil {
		few := autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PodsScalingPolicy, Value: pods, PeriodSeconds: period}
		up.Policies = []autoscalingv2.HPAScalingPolicy{few, all}
	}
	// How long to wait before scaling down is the controller's own default.
	unset(&s.Behavior.ScaleDown, autoscalingv2.HPAScalingRules{})
	down := s.Behavior.ScaleDown
	unset(&down.SelectPolicy, autoscalingv2.MaxChangePolicySelect)
	if down.Policies == nil {
		down.Policies = []autoscalingv2.HPAScalingPolicy{all}
	}
}
