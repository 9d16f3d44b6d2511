package admission

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"shoal/internal/api"
)

// tolerations says how long a pod stays on a machine that is not ready or does not answer, unless the pod says so itself.
type tolerations struct{ seconds int64 }

func (p tolerations) Admit(_ context.Context, r *Request) error {
	if !r.is(api.Pods, Create) && !r.is(api.Pods, Update) { // who replaces a pod need not repeat what was added
		return nil
	}
	pod := r.Object.(*corev1.Pod)
	for _, key := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
		if tolerates(pod, key) {
			continue
		}
		seconds := p.seconds
		pod.Spec.Tolerations = append(pod.Spec.Tolerations, corev1.Toleration{
			Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &seconds,
		})
	}
	return nil
}

// tolerates reports whether the pod has its own word on a taint. An empty key or effect means all.
func tolerates(pod *corev1.Pod, key string) bool {
	for _, t := range pod.Spec.Tolerations {
		if (t.Key == key || t.Key == "") && (t.Effect == corev1.TaintEffectNoExecute || t.Effect == "") {
			return true
		}
	}
	return false
}
