package admission

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"shoal/internal/api"
	"shoal/internal/client"
)

// runtimeClass gives new pods what their RuntimeClass says of overhead and scheduling. Which runtimes there are is known to the machines.
type runtimeClass struct{ reader Reader }

func (p runtimeClass) Admit(ctx context.Context, r *Request) error {
	if !r.is(api.Pods, Create) {
		return nil
	}
	pod := r.Object.(*corev1.Pod)
	class, err := p.class(ctx, r, pod.Spec.RuntimeClassName)
	if err != nil {
		return err
	}
	if err := p.overhead(&pod.Spec, class); err != nil {
		return r.forbidden(err)
	}
	if class == nil || class.Scheduling == nil {
		return nil
	}
	for key, value := range class.Scheduling.NodeSelector {
		if own, ok := pod.Spec.NodeSelector[key]; ok && own != value {
			return r.forbidden(fmt.Errorf("conflict: runtimeClass.scheduling.nodeSelector[%s] = %s; pod.spec.nodeSelector[%s] = %s", key, value, key, own))
		}
	}
	if len(class.Scheduling.NodeSelector) > 0 {
		if pod.Spec.NodeSelector == nil {
			pod.Spec.NodeSelector = map[string]string{}
		}
		maps.Copy(pod.Spec.NodeSelector, class.Scheduling.NodeSelector)
	}
	for _, t := range class.Scheduling.Tolerations {
		if !slices.ContainsFunc(pod.Spec.Tolerations, func(own corev1.Toleration) bool { return equality.Semantic.DeepEqual(own, t) }) {
			pod.Spec.Tolerations = append(pod.Spec.Tolerations, t)
		}
	}
	return nil
}

// class returns the RuntimeClass of a name; nil if none is wanted.
func (p runtimeClass) class(ctx context.Context, r *Request, name *string) (*nodev1.RuntimeClass, error) {
	if name == nil {
		return nil, nil
	}
	o, err := find(ctx, p.reader, api.RuntimeClasses, client.Key{Name: *name})
	if apierrors.IsNotFound(err) {
		return nil, r.forbidden(fmt.Errorf("pod rejected: RuntimeClass %q not found", *name))
	}
	if err != nil {
		return nil, err
	}
	return o.(*nodev1.RuntimeClass), nil
}

func (runtimeClass) overhead(s *corev1.PodSpec, class *nodev1.RuntimeClass) error {
	switch {
	case class == nil || class.Overhead == nil:
		if len(s.Overhead) > 0 {
			return errors.New("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")
		}
	case s.Overhead == nil:
		s.Overhead = class.Overhead.PodFixed.DeepCopy()
	case !equality.Semantic.DeepEqual(s.Overhead, class.Overhead.PodFixed):
		return errors.New("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
	}
	return nil
}
