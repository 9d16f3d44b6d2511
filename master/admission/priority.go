package admission

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"shoal/internal/api"
)

// The classes every cluster has. Users cannot make others yet.
const (
	clusterCritical      = "system-cluster-critical"
	nodeCritical         = "system-node-critical"
	clusterCriticalValue = 2_000_000_000
	nodeCriticalValue    = 2_000_001_000
)

// priority turns a pod's priority class into its priority.
type priority struct{}

func (priority) Admit(_ context.Context, r *Request) error {
	if r.Kind != api.Pods || r.Subresource != "" {
		return nil
	}
	switch r.Operation {
	case Create:
		return setPriority(r, r.Object.(*corev1.Pod))
	case Update:
		// What was computed stays when the client does not repeat it.
		pod, old := r.Object.(*corev1.Pod), r.OldObject.(*corev1.Pod)
		if pod.Spec.Priority == nil {
			pod.Spec.Priority = old.Spec.Priority
		}
		if pod.Spec.PreemptionPolicy == nil {
			pod.Spec.PreemptionPolicy = old.Spec.PreemptionPolicy
		}
	}
	return nil
}

func setPriority(r *Request, pod *corev1.Pod) error {
	var value int32
	switch pod.Spec.PriorityClassName {
	case "":
	case clusterCritical:
		value = clusterCriticalValue
	case nodeCritical:
		value = nodeCriticalValue
	default:
		return r.forbidden(fmt.Errorf("no PriorityClass with name %v was found", pod.Spec.PriorityClassName))
	}
	if given := pod.Spec.Priority; given != nil && *given != value {
		return r.forbidden(fmt.Errorf("the integer value of priority (%d) must not be provided in pod spec; priority admission controller computed %d from the given PriorityClass name", *given, value))
	}
	policy := corev1.PreemptLowerPriority
	if given := pod.Spec.PreemptionPolicy; given != nil && *given != policy {
		return r.forbidden(fmt.Errorf("the string value of PreemptionPolicy (%s) must not be provided in pod spec; priority admission controller computed %s from the given PriorityClass name", *given, policy))
	}
	pod.Spec.Priority, pod.Spec.PreemptionPolicy = &value, &policy
	return nil
}
