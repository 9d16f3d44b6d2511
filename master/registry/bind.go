package registry

import (
	"context"
	"maps"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"shoal/internal/api"
	"shoal/internal/client"
)

// bind gives a pod its node, once.
func (r *Registry) bind(ctx context.Context, key client.Key, b *corev1.Binding, dryRun bool) (runtime.Object, error) {
	if key.Name == "" {
		key = client.Key{Namespace: b.Namespace, Name: b.Name}
	}
	switch {
	case b.Name != "" && b.Name != key.Name:
		return nil, badRequest("name in URL does not match name in Binding object")
	case b.Target.Name == "":
		return nil, badRequest("target.name: Required value")
	case b.Target.Kind != "" && b.Target.Kind != "Node":
		return nil, badRequest(`target.kind: Unsupported value: %q: supported values: "Node", "<empty>"`, b.Target.Kind)
	}
	k, err := r.podKind()
	if err != nil {
		return nil, err
	}
	_, err = r.update(ctx, updating{kind: k, key: key, sub: "binding", dryRun: dryRun}, func(old *Entry) (api.Object, error) {
		pod := clone(old).(*corev1.Pod)
		if b.UID != "" && b.UID != pod.UID {
			return nil, conflict(k, key.Name, "Precondition failed: UID in precondition: %v, UID in object meta: %v", b.UID, pod.UID)
		}
		switch {
		case pod.DeletionTimestamp != nil:
			return nil, bindingConflict(key.Name, "pod %s is being deleted, cannot be assigned to a host", key.Name)
		case pod.Spec.NodeName != "":
			return nil, bindingConflict(key.Name, "pod %s is already assigned to node %q", key.Name, pod.Spec.NodeName)
		}
		pod.Spec.NodeName = b.Target.Name
		if len(b.Annotations) > 0 {
			if pod.Annotations == nil {
				pod.Annotations = map[string]string{}
			}
			maps.Copy(pod.Annotations, b.Annotations)
		}
		setScheduled(pod, r.now())
		return pod, nil
	})
	if err != nil {
		return nil, err
	}
	return &metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
		Status:   metav1.StatusSuccess, Code: http.StatusCreated,
	}, nil
}

func (r *Registry) podKind() (*api.Kind, error) {
	k, ok := r.Kinds().ByResource(corev1.SchemeGroupVersion.WithResource("pods"))
	if !ok {
		return nil, notServed()
	}
	return k, nil
}

func bindingConflict(name, format string, args ...any) error {
	return conflict(&api.Kind{Resource: "pods/binding"}, name, format, args...)
}

// setScheduled notes on the pod that it has a node. Like Kubernetes' binding it keeps an older transition time.
func setScheduled(pod *corev1.Pod, now metav1.Time) {
	c := corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: now}
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == corev1.PodScheduled {
			if pod.Status.Conditions[i].Status == corev1.ConditionTrue {
				c.LastTransitionTime = pod.Status.Conditions[i].LastTransitionTime
			}
			pod.Status.Conditions[i] = c
			return
		}
	}
	pod.Status.Conditions = append(pod.Status.Conditions, c)
}
