package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"shoal/internal/api"
	"shoal/internal/client"
)

// replication keeps as many pods of each ReplicationController, or each ReplicaSet, as it wants. It creates pods, deletes those too many,
// adopts and releases pods by the selector, and writes the status. A pod with the condition DisruptionTarget does not
// count, so that a replacement is made first, and is deleted once enough others are ready.
type replication struct {
	Config
	replicatedKind
	queue client.Queue
}

func newReplication(c Config, k replicatedKind) loop {
	r := &replication{Config: c, replicatedKind: k, queue: client.NewQueue()}
	k.onChange(r.queue.Add)
	follow(c.Caches.Pods, wakeOwner(k.kind, r.queue.Add, k.adopters))
	return newLoop(k.controller, r.queue, 5, r.reconcile)
}

func (r *replication) reconcile(ctx context.Context, key client.Key) (time.Duration, error) {
	set, ok := r.get(key)
	if !ok {
		return 0, nil // its pods are the garbage collector's
	}
	pods, err := r.claim(ctx, set)
	if err != nil {
		return 0, err
	}
	var active []*corev1.Pod
	for _, p := range pods {
		if api.IsPodActive(p) {
			active = append(active, p)
		}
	}
	var workErr error
	if set.GetDeletionTimestamp() == nil {
		workErr = r.scale(ctx, set, active)
	}
	after, err := r.writeStatus(ctx, set, active, workErr)
	return after, errors.Join(workErr, err)
}

// scale creates and deletes pods until there are as many as set wants, and waits until the cache shows it.
func (r *replication) scale(ctx context.Context, set *replicated, active []*corev1.Pod) error {
	create, remove := plan(set.want, active, r.related(set), set.GetGeneration() != set.status.ObservedGeneration)
	if most := room(active); create > most {
		create = most
		r.sayHeld(r.controller, set.Object)
	}
	var w written
	err := errors.Join(r.createPods(ctx, set, create, &w), r.deletePods(ctx, set, remove, &w))
	if create == 0 && len(remove) == 0 {
		return nil
	}
	return errors.Join(err, w.shown(ctx, r.Caches.Pods))
}

// plan says how many pods to create and which to delete so that want of the active ones stay. related are pods, besides, that do the same
// work: when somebody has asked for fewer (scaled), those that go should not leave the nodes uneven. Else there are too many because a machine came back whose pods
// had been replaced, and the youngest go, wherever they are: nobody on a machine that nothing was wrong with.
func plan(want int, active, related []*corev1.Pod, scaled bool) (create int, remove []*corev1.Pod) {
	var keep, marked []*corev1.Pod
	ready, related := 0, slices.Concat(active, related)
	for _, p := range active {
		if api.IsPodDisrupted(p) {
			marked = append(marked, p)
			continue
		}
		keep = append(keep, p)
		if api.IsPodReady(p) {
			ready++
		}
	}
	if tooMany := len(keep) - want; tooMany > 0 {
		if scaled {
			rankForDeletion(keep, related)
		} else {
			rankYoungestFirst(keep)
		}
		remove = append(remove, keep[:tooMany]...)
	} else {
		create = -tooMany
	}
	// A marked pod stays for as long as its replacement is not ready: it may still serve, and may be pardoned.
	if tooMany := len(marked) - max(0, want-ready); tooMany > 0 {
		rankForDeletion(marked, related)
		remove = append(remove, marked[:tooMany]...)
	}
	return create, remove
}

func (r *replication) createPods(ctx context.Context, set *replicated, n int, w *written) error {
	return createAll(ctx, make([]struct{}, n), func(ctx context.Context, _ struct{}) error {
		return createPod(ctx, r.Config, r.controller, set.Object, r.newPod(set), w)
	})
}

func (r *replication) newPod(set *replicated) *corev1.Pod {
	t := set.template.DeepCopy()
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: set.GetName() + "-", Namespace: set.GetNamespace(),
			Labels: t.Labels, Annotations: t.Annotations, Finalizers: t.Finalizers,
			OwnerReferences: []metav1.OwnerReference{controllerRef(set, r.kind)},
		},
		Spec: t.Spec,
	}
}

func (r *replication) deletePods(ctx context.Context, set *replicated, pods []*corev1.Pod, w *written) error {
	return each(ctx, pods, func(ctx context.Context, p *corev1.Pod) error {
		gone, err := r.Client.Delete(ctx, api.Pods, client.KeyOf(p), client.DeleteOptions{
			Preconditions: &metav1.Preconditions{UID: &p.UID},
		})
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return nil // the cache will show it; if it does not, the next reconcile deletes again
		}
		if err != nil {
			r.Events.EventFrom(r.controller, set.Object, corev1.EventTypeWarning, "FailedDelete", "Error deleting: %v", err)
			return fmt.Errorf("delete pod %s: %w", p.Name, err)
		}
		w.note(gone.GetResourceVersion())
		r.Events.EventFrom(r.controller, set.Object, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: %s", p.Name)
		return nil
	})
}

// claim returns the pods that set controls after it adopted matching orphans and released those that no longer match.
func (r *replication) claim(ctx context.Context, set *replicated) ([]*corev1.Pod, error) {
	mine, changed, err := claim(ctx, r.Config, r.kind, set, api.Pods, r.Caches.Pods, func(p *corev1.Pod) (matches, adoptable bool) {
		return set.selects(p), api.IsPodActive(p)
	})
	if !changed || err != nil {
		return mine, err
	}
	return slices.DeleteFunc(r.Caches.Pods.ByIndex(byController, string(set.GetUID())), func(p *corev1.Pod) bool { return !set.selects(p) }), nil
}

// writeStatus writes what is now true, and returns when to look again because a pod becomes available by itself.
func (r *replication) writeStatus(ctx context.Context, set *replicated, active []*corev1.Pod, failed error) (time.Duration, error) {
	if failed == nil {
		active = active[:0]
		for _, p := range r.Caches.Pods.ByIndex(byController, string(set.GetUID())) {
			if api.IsPodActive(p) && set.selects(p) {
				active = append(active, p)
			}
		}
	}
	status, after := replicationStatus(set, active, failed, r.Now())
	if equality.Semantic.DeepEqual(set.status, status) {
		return after, nil
	}
	out, err := r.Client.Update(ctx, r.kind, r.withStatus(set, status), client.UpdateOptions{Subresource: "status"})
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("write status: %w", err)
	}
	if m, ok := out.(api.Object); ok {
		return after, r.waitFor(ctx, m.GetResourceVersion())
	}
	return after, nil
}

func replicationStatus(set *replicated, active []*corev1.Pod, failed error, now time.Time) (appsv1.ReplicaSetStatus, time.Duration) {
	s := *set.status.DeepCopy()
	s.Replicas, s.FullyLabeledReplicas, s.ReadyReplicas, s.AvailableReplicas = int32(len(active)), 0, 0, 0
	s.ObservedGeneration = set.GetGeneration()
	var after time.Duration
	template := labels.Everything()
	if set.template != nil {
		template = labels.SelectorFromSet(maps.Clone(set.template.Labels))
	}
	for _, p := range active {
		if template.Matches(labels.Set(p.Labels)) {
			s.FullyLabeledReplicas++
		}
		wait, ready := availableIn(p, set.minReady, now)
		if !ready {
			continue
		}
		s.ReadyReplicas++
		if wait == 0 {
			s.AvailableReplicas++
		} else if after == 0 || wait < after {
			after = wait
		}
	}
	s.Conditions = slices.DeleteFunc(s.Conditions, func(c appsv1.ReplicaSetCondition) bool { return c.Type == appsv1.ReplicaSetReplicaFailure })
	if failed != nil {
		c := appsv1.ReplicaSetCondition{
			Type: appsv1.ReplicaSetReplicaFailure, Status: corev1.ConditionTrue,
			Reason: "FailedCreate", Message: failed.Error(), LastTransitionTime: metav1.NewTime(now),
		}
		for _, old := range set.status.Conditions {
			if old.Type == c.Type {
				c.LastTransitionTime = old.LastTransitionTime
			}
		}
		s.Conditions = append(s.Conditions, c)
	}
	if len(s.Conditions) == 0 {
		s.Conditions = nil
	}
	return s, after
}
