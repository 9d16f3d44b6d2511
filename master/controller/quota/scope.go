package quota

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"shoal/internal/api"
)

// matches reports whether an object is among those that a quota limits: all, or those that all its scopes select.
func matches(q *corev1.ResourceQuota, o api.Object) bool {
	for _, scope := range q.Spec.Scopes {
		if !selects(corev1.ScopedResourceSelectorRequirement{ScopeName: scope, Operator: corev1.ScopeSelectorOpExists}, o) {
			return false
		}
	}
	if q.Spec.ScopeSelector == nil {
		return true
	}
	for _, r := range q.Spec.ScopeSelector.MatchExpressions {
		if !selects(r, o) {
			return false
		}
	}
	return true
}

// selects reports whether one scope selects an object. Scopes are about pods, and one is about claims.
func selects(r corev1.ScopedResourceSelectorRequirement, o api.Object) bool {
	if c, ok := o.(*corev1.PersistentVolumeClaim); ok {
		if r.ScopeName != corev1.ResourceQuotaScopeVolumeAttributesClass {
			return false
		}
		var classes []string
		for _, name := range []*string{c.Spec.VolumeAttributesClassName, c.Status.CurrentVolumeAttributesClassName} {
			if name != nil && *name != "" {
				classes = append(classes, *name)
			}
		}
		return hasOneOf(r, classes)
	}
	p, ok := o.(*corev1.Pod)
	if !ok {
		return false
	}
	switch r.ScopeName {
	case corev1.ResourceQuotaScopeTerminating:
		return ends(p)
	case corev1.ResourceQuotaScopeNotTerminating:
		return !ends(p)
	case corev1.ResourceQuotaScopeBestEffort:
		return api.QOSClass(p) == corev1.PodQOSBestEffort
	case corev1.ResourceQuotaScopeNotBestEffort:
		return api.QOSClass(p) != corev1.PodQOSBestEffort
	case corev1.ResourceQuotaScopePriorityClass:
		if p.Spec.PriorityClassName == "" {
			return hasOneOf(r, nil)
		}
		return hasOneOf(r, []string{p.Spec.PriorityClassName})
	case corev1.ResourceQuotaScopeCrossNamespacePodAffinity:
		return looksAcross(p)
	}
	return false
}

// ends reports whether a pod has a deadline.
func ends(p *corev1.Pod) bool {
	return p.Spec.ActiveDeadlineSeconds != nil && *p.Spec.ActiveDeadlineSeconds >= 0
}

// hasOneOf applies the operator of a scope to the names that an object has.
func hasOneOf(r corev1.ScopedResourceSelectorRequirement, names []string) bool {
	op := map[corev1.ScopeSelectorOperator]selection.Operator{
		corev1.ScopeSelectorOpIn: selection.In, corev1.ScopeSelectorOpNotIn: selection.NotIn,
		corev1.ScopeSelectorOpExists: selection.Exists, corev1.ScopeSelectorOpDoesNotExist: selection.DoesNotExist,
	}[r.Operator]
	want, err := labels.NewRequirement(string(r.ScopeName), op, r.Values)
	if err != nil {
		return false // validated
	}
	if len(names) == 0 {
		return want.Matches(labels.Set{})
	}
	for _, name := range names {
		if want.Matches(labels.Set{string(r.ScopeName): name}) {
			return true
		}
	}
	return false
}

// looksAcross reports whether where a pod may run depends on pods of other namespaces.
func looksAcross(p *corev1.Pod) bool {
	if p.Spec.Affinity == nil {
		return false
	}
	var terms []corev1.PodAffinityTerm
	if a := p.Spec.Affinity.PodAffinity; a != nil {
		terms = append(terms, a.RequiredDuringSchedulingIgnoredDuringExecution...)
		for _, t := range a.PreferredDuringSchedulingIgnoredDuringExecution {
			terms = append(terms, t.PodAffinityTerm)
		}
	}
	if a := p.Spec.Affinity.PodAntiAffinity; a != nil {
		terms = append(terms, a.RequiredDuringSchedulingIgnoredDuringExecution...)
		for _, t := range a.PreferredDuringSchedulingIgnoredDuringExecution {
			terms = append(terms, t.PodAffinityTerm)
		}
	}
	for _, t := range terms {
		if len(t.Namespaces) > 0 || t.NamespaceSelector != nil {
			return true
		}
	}
	return false
}
