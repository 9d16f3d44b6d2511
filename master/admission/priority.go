package admission

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"shoal/internal/api"
	"shoal/internal/client"
)

// priority turns a pod's priority class into its priority, and sees to it that at most one class is everybody's.
type priority struct{ reader Reader }

func (p priority) Admit(ctx context.Context, r *Request) error {
	switch {
	case r.is(api.Pods, Create):
		return p.set(ctx, r, r.Object.(*corev1.Pod))
	case r.is(api.Pods, Update):
		// What was computed stays when the client does not repeat it.
		pod, old := r.Object.(*corev1.Pod), r.OldObject.(*corev1.Pod)
		if pod.Spec.Priority == nil {
			pod.Spec.Priority = old.Spec.Priority
		}
		if pod.Spec.PreemptionPolicy == nil {
			pod.Spec.PreemptionPolicy = old.Spec.PreemptionPolicy
		}
	case r.is(api.PriorityClasses, Create), r.is(api.PriorityClasses, Update):
		return p.onlyDefault(ctx, r, r.Object.(*schedulingv1.PriorityClass))
	}
	return nil
}

func (p priority) set(ctx context.Context, r *Request, pod *corev1.Pod) error {
	class, err := p.classOf(ctx, pod)
	switch {
	case apierrors.IsNotFound(err):
		return r.forbidden(fmt.Errorf("no PriorityClass with name %v was found", pod.Spec.PriorityClassName))
	case err != nil:
		return err
	}
	value, policy := int32(0), corev1.PreemptLowerPriority
	if class != nil {
		pod.Spec.PriorityClassName, value = class.Name, class.Value
		if class.PreemptionPolicy != nil {
			policy = *class.PreemptionPolicy
		}
	}
	if given := pod.Spec.Priority; given != nil && *given != value {
		return r.forbidden(fmt.Errorf("the integer value of priority (%d) must not be provided in pod spec; priority admission controller computed %d from the given PriorityClass name", *given, value))
	}
	if given := pod.Spec.PreemptionPolicy; given != nil && *given != policy {
		return r.forbidden(fmt.Errorf("the string value of PreemptionPolicy (%s) must not be provided in pod spec; priority admission controller computed %s from the given PriorityClass name", *given, policy))
	}
	pod.Spec.Priority, pod.Spec.PreemptionPolicy = &value, &policy
	return nil
}

// classOf returns the pod's priority class, or the default class when it names none; nil when there is neither.
func (p priority) classOf(ctx context.Context, pod *corev1.Pod) (*schedulingv1.PriorityClass, error) {
	if name := pod.Spec.PriorityClassName; name != "" {
		o, err := find(ctx, p.reader, api.PriorityClasses, client.Key{Name: name})
		if err != nil {
			return nil, err
		}
		return o.(*schedulingv1.PriorityClass), nil
	}
	return p.defaultClass(ctx)
}

// defaultClass returns the class of those who name none, as far as this peer knows. If there are several, which takes writes that met at
// two Masters, it is the one of the lowest value, as in Kubernetes.
func (p priority) defaultClass(ctx context.Context) (*schedulingv1.PriorityClass, error) {
	l, err := p.reader.List(ctx, api.PriorityClasses, client.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return nil, err
	}
	var found *schedulingv1.PriorityClass
	for _, o := range l.Items {
		if c := o.(*schedulingv1.PriorityClass); c.GlobalDefault && (found == nil || c.Value < found.Value) {
			found = c
		}
	}
	return found, nil
}

func (p priority) onlyDefault(ctx context.Context, r *Request, class *schedulingv1.PriorityClass) error {
	if !class.GlobalDefault {
		return nil
	}
	other, err := p.defaultClass(ctx)
	if err != nil {
		return err
	}
	if other != nil && other.Name != class.Name {
		return r.forbidden(fmt.Errorf("PriorityClass %v is already marked as default. Only one default can exist", other.Name))
	}
	return nil
}
