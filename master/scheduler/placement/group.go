package placement

import (
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"shoal/internal/api"
)

// GroupOf names those that p should be spread over nodes with: the others of its controller, or else of the first of the
// Services of its namespace that selects it.
func GroupOf(p *corev1.Pod, services []*corev1.Service) string {
	if ref := metav1.GetControllerOfNoCopy(p); ref != nil {
		return string(ref.UID)
	}
	first := ""
	for _, svc := range services {
		if len(svc.Spec.Selector) > 0 && api.Selects(svc.Spec.Selector, p.Labels) && (first == "" || svc.Name < first) {
			first = svc.Name
		}
	}
	if first == "" {
		return ""
	}
	return p.Namespace + "/" + first
}

// Budgets are what PodDisruptionBudgets allow. One whose selector makes no sense protects nothing; its status says so.
func Budgets(all []*policyv1.PodDisruptionBudget) []Budget {
	var out []Budget
	for _, b := range all {
		selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
		if err != nil {
			continue
		}
		out = append(out, Budget{
			Namespace: b.Namespace, Allowed: int(b.Status.DisruptionsAllowed),
			Selects: func(l map[string]string) bool { return selector.Matches(labels.Set(l)) },
		})
	}
	return out
}
