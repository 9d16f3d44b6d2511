package admission

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"shoal/internal/api"
)

// nodeTaint keeps pods off a new Node until it is ready: the Master takes the taint away then.
type nodeTaint struct{}

func (nodeTaint) Admit(_ context.Context, r *Request) error {
	if !r.is(api.Nodes, Create) {
		return nil
	}
	n := r.Object.(*corev1.Node)
	notReady := corev1.Taint{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule}
	if !slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.MatchTaint(&notReady) }) {
		n.Spec.Taints = append(n.Spec.Taints, notReady)
	}
	return nil
}
