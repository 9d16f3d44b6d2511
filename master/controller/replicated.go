package controller

import (
	"context"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"shoal/internal/api"
	"shoal/internal/client"
)

// replicated is an object that wants a number of equal pods: a ReplicationController or a ReplicaSet. It is as the cache has it, not to be
// changed.
type replicated struct {
	api.Object
	want     int
	selector labels.Selector
	template *corev1.PodTemplateSpec
	minReady time.Duration
	status   appsv1.ReplicaSetStatus // a ReplicationController's has the same fields
}

func (s *replicated) selects(p *corev1.Pod) bool { return s.selector.Matches(labels.Set(p.Labels)) }

// replicatedKind is what the two kinds do not share.
type replicatedKind struct {
	kind       *api.Kind
	controller string // its name in Events
	get        func(client.Key) (*replicated, bool)
	adopters   func(pod api.Object) []client.Key
	onChange   func(func(client.Key))
	withStatus func(*replicated, appsv1.ReplicaSetStatus) api.Object
	waitFor    func(ctx context.Context, rev string) error
	related    func(*replicated) []*corev1.Pod // pods of others that do the same work
}

// newReplicatedKind makes one from a cache and what tells of one object.
func newReplicatedKind[T api.Object](k *api.Kind, controller string, cache *client.Cache[T], of func(T) *replicated) replicatedKind {
	return replicatedKind{
		kind: k, controller: controller, waitFor: cache.WaitFor,
		get: func(key client.Key) (*replicated, bool) {
			o, ok := cache.Get(key)
			if !ok {
				return nil, false
			}
			return of(o), true
		},
		adopters: func(pod api.Object) (keys []client.Key) {
			for _, o := range cache.List(pod.GetNamespace(), nil) {
				if of(o).selector.Matches(labelsOf(pod)) {
					keys = append(keys, client.KeyOf(o))
				}
			}
			return keys
		},
		onChange: func(add func(client.Key)) {
			var none T
			cache.OnChange(func(old, o T) {
				if any(o) == any(none) {
					o = old
				}
				add(client.KeyOf(o))
			})
		},
		related: func(*replicated) []*corev1.Pod { return nil },
	}
}

func replicationControllers(c Config) replicatedKind {
	k := newReplicatedKind(api.ReplicationControllers, "replication-controller", c.Caches.RCs, ofController)
	k.withStatus = func(s *replicated, status appsv1.ReplicaSetStatus) api.Object {
		rc := s.Object.(*corev1.ReplicationController).DeepCopy()
		rc.Status = corev1.ReplicationControllerStatus{
			Replicas: status.Replicas, FullyLabeledReplicas: status.FullyLabeledReplicas, ReadyReplicas: status.ReadyReplicas,
			AvailableReplicas: status.AvailableReplicas, ObservedGeneration: status.ObservedGeneration,
		}
		for _, c := range status.Conditions {
			rc.Status.Conditions = append(rc.Status.Conditions, corev1.ReplicationControllerCondition{
				Type: corev1.ReplicationControllerConditionType(c.Type), Status: c.Status,
				LastTransitionTime: c.LastTransitionTime, Reason: c.Reason, Message: c.Message,
			})
		}
		return rc
	}
	return k
}

func ofController(rc *corev1.ReplicationController) *replicated {
	s := &replicated{
		Object: rc, want: int(*orOne(rc.Spec.Replicas)), selector: labels.Nothing(), template: rc.Spec.Template,
		minReady: time.Duration(rc.Spec.MinReadySeconds) * time.Second,
		status: appsv1.ReplicaSetStatus{
			Replicas: rc.Status.Replicas, FullyLabeledReplicas: rc.Status.FullyLabeledReplicas, ReadyReplicas: rc.Status.ReadyReplicas,
			AvailableReplicas: rc.Status.AvailableReplicas, ObservedGeneration: rc.Status.ObservedGeneration,
		},
	}
	if len(rc.Spec.Selector) > 0 {
		s.selector = labels.SelectorFromSet(rc.Spec.Selector)
	}
	for _, c := range rc.Status.Conditions {
		s.status.Conditions = append(s.status.Conditions, appsv1.ReplicaSetCondition{
			Type: appsv1.ReplicaSetConditionType(c.Type), Status: c.Status,
			LastTransitionTime: c.LastTransitionTime, Reason: c.Reason, Message: c.Message,
		})
	}
	return s
}

func replicaSets(c Config) replicatedKind {
	k := newReplicatedKind(api.ReplicaSets, "replicaset-controller", c.Caches.ReplicaSets, ofReplicaSet)
	k.withStatus = func(s *replicated, status appsv1.ReplicaSetStatus) api.Object {
		rs := s.Object.(*appsv1.ReplicaSet).DeepCopy()
		rs.Status = status
		return rs
	}
	// Those of one Deployment share the nodes during a rollout.
	k.related = func(s *replicated) (pods []*corev1.Pod) {
		owner := metav1.GetControllerOf(s)
		if owner == nil {
			return nil
		}
		for _, rs := range c.Caches.ReplicaSets.ByIndex(byController, string(owner.UID)) {
			if rs.UID != s.GetUID() {
				pods = append(pods, activePods(c.Caches, rs)...)
			}
		}
		return pods
	}
	return k
}

func ofReplicaSet(rs *appsv1.ReplicaSet) *replicated {
	return &replicated{
		Object: rs, want: int(*orOne(rs.Spec.Replicas)), selector: selectorOf(rs.Spec.Selector), template: &rs.Spec.Template,
		minReady: time.Duration(rs.Spec.MinReadySeconds) * time.Second, status: rs.Status,
	}
}

// selectorOf compiles a selector that has passed validation; an empty one selects nothing.
func selectorOf(s *metav1.LabelSelector) labels.Selector {
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil || selector.Empty() {
		return labels.Nothing()
	}
	return selector
}

// activePods are those that owner controls and that have not ended.
func activePods(c *Caches, owner api.Object) (pods []*corev1.Pod) {
	for _, p := range c.Pods.ByIndex(byController, string(owner.GetUID())) {
		if api.IsPodActive(p) {
			pods = append(pods, p)
		}
	}
	return pods
}

func orOne(n *int32) *int32 {
	if n == nil {
		return new(int32(1))
	}
	return n
}
