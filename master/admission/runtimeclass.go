package admission

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"shoal/internal/api"
)

// runtimeClass refuses pods that want a container runtime of their own: there is only one.
type runtimeClass struct{}

func (runtimeClass) Admit(_ context.Context, r *Request) error {
	if !r.is(api.Pods, Create) {
		return nil
	}
	if name := r.Object.(*corev1.Pod).Spec.RuntimeClassName; name != nil {
		return r.forbidden(fmt.Errorf("pod rejected: RuntimeClass %q not found", *name))
	}
	return nil
}
