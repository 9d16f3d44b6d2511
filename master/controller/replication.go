package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/api"
	"shoal/internal/client"
)

// replication keeps as many pods of each ReplicationController as it wants. It creates pods, deletes those too many,
// adopts and releases pods by the selector, and writes the status. A pod with the condition DisruptionTarget does not
// count, so that a replacement is made first, and is deleted once enough others are ready.
type replication struct {
	Config
	queue client.Queue
}

const replicationName = "replication-controller"

func newReplication(c Config) loop {
	r := &replication{Config: c, queue: client.NewQueue()}
	c.Caches.RCs.OnChange(func(old, rc *corev1.ReplicationController) {
		if rc == nil {
			rc = old
		}
		r.queue.Add(client.KeyOf(rc))
	})
	c.Caches.Pods.OnChange(func(old, p *corev1.Pod) {
		if old != nil {
			r.podChanged(old)
		}
		if p != nil {
			r.podChanged(p)
		}
	})
	return loop{name: replicationName, queue: r.queue, workers: 5, reconcile: r.reconcile}
}

func (r *replication) podChanged(p *corev1.Pod) {
	if ref := metav1.GetControllerOf(p); ref != nil {
		if ref.Kind == api.ReplicationControllers.Kind {
			r.queue.Add(client.Key{Namespace: p.Namespace, Name: ref.Name})
		}
		return
	}
	for _, rc := range r.Caches.RCs.List(p.Namespace, nil) {
		if selects(rc, p) {
			r.queue.Add(client.KeyOf(rc))
		}
	}
}

func selects(rc *corev1.ReplicationController, p *corev1.Pod) bool {
	return len(rc.Spec.Selector) > 0 && labels.SelectorFromSet(rc.Spec.Selector).Matches(labels.Set(p.Labels))
}

func (r *replication) reconcile(ctx context.Context, key client.Key) (time.Duration, error) {
	rc, ok := r.Caches.RCs.Get(key)
	if !ok {
		return 0, nil // its pods are the garbage collector's
	}
	pods, err := r.claim(ctx, rc)
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
	if rc.DeletionTimestamp == nil {
		workErr = r.scale(ctx, rc, active)
	}
	after, err := r.writeStatus(ctx, rc, active, workErr)
	return after, errors.Join(workErr, err)
}

// scale creates and deletes pods until there are as many as rc wants, and waits until the cache shows it.
func (r *replication) scale(ctx context.Context, rc *corev1.ReplicationController, active []*corev1.Pod) error {
	create, remove := plan(int(*orOne(rc.Spec.Replicas)), active)
	var w written
	err := errors.Join(r.createPods(ctx, rc, create, &w), r.deletePods(ctx, rc, remove, &w))
	if create == 0 && len(remove) == 0 {
		return nil
	}
	return errors.Join(err, w.shown(ctx, r.Caches.Pods))
}

// plan says how many pods to create and which to delete so that want of the active ones stay.
func plan(want int, active []*corev1.Pod) (create int, remove []*corev1.Pod) {
	var keep, marked []*corev1.Pod
	ready := 0
	for _, p := range active {
		if podDisrupted(p) {
			marked = append(marked, p)
			continue
		}
		keep = append(keep, p)
		if api.IsPodReady(p) {
			ready++
		}
	}
	if tooMany := len(keep) - want; tooMany > 0 {
		rankForDeletion(keep, active)
		remove = append(remove, keep[:tooMany]...)
	} else {
		create = -tooMany
	}
	// A marked pod stays for as long as its replacement is not ready: it may still serve, and may be pardoned.
	if tooMany := len(marked) - max(0, want-ready); tooMany > 0 {
		rankForDeletion(marked, active)
		remove = append(remove, marked[:tooMany]...)
	}
	return create, remove
}

// createPods creates n pods in growing batches, so that a template that cannot work costs few calls.
func (r *replication) createPods(ctx context.Context, rc *corev1.ReplicationController, n int, w *written) error {
	for batch := 4; n > 0; batch *= 2 {
		size := min(batch, n, 4*maxParallel)
		err := each(ctx, make([]struct{}, size), func(ctx context.Context, _ struct{}) error {
			return r.createPod(ctx, rc, w)
		})
		if err != nil {
			return err
		}
		n -= size
	}
	return nil
}

func (r *replication) createPod(ctx context.Context, rc *corev1.ReplicationController, w *written) error {
	obj, err := r.Client.Create(ctx, api.Pods, newPod(rc), client.CreateOptions{})
	if err != nil {
		if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			return nil
		}
		if ctx.Err() == nil {
			r.Events.EventFrom(replicationName, rc, corev1.EventTypeWarning, "FailedCreate", "Error creating: %v", err)
		}
		return fmt.Errorf("create pod: %w", err)
	}
	p, ok := obj.(*corev1.Pod)
	if !ok {
		return fmt.Errorf("create pod: answer is a %T", obj)
	}
	w.note(p.ResourceVersion)
	r.Events.EventFrom(replicationName, rc, corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: %s", p.Name)
	return nil
}

func newPod(rc *corev1.ReplicationController) *corev1.Pod {
	t := rc.Spec.Template.DeepCopy()
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: rc.Name + "-", Namespace: rc.Namespace,
			Labels: t.Labels, Annotations: t.Annotations, Finalizers: t.Finalizers,
			OwnerReferences: []metav1.OwnerReference{controllerRef(rc, api.ReplicationControllers)},
		},
		Spec: t.Spec,
	}
}

func controllerRef(o api.Object, k *api.Kind) metav1.OwnerReference {
	return *metav1.NewControllerRef(o, k.GroupVersionKind)
}

func (r *replication) deletePods(ctx context.Context, rc *corev1.ReplicationController, pods []*corev1.Pod, w *written) error {
	return each(ctx, pods, func(ctx context.Context, p *corev1.Pod) error {
		gone, err := r.Client.Delete(ctx, api.Pods, client.KeyOf(p), client.DeleteOptions{
			Preconditions: &metav1.Preconditions{UID: &p.UID},
		})
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return nil // the cache will show it; if it does not, the next reconcile deletes again
		}
		if err != nil {
			r.Events.EventFrom(replicationName, rc, corev1.EventTypeWarning, "FailedDelete", "Error deleting: %v", err)
			return fmt.Errorf("delete pod %s: %w", p.Name, err)
		}
		w.note(gone.GetResourceVersion())
		r.Events.EventFrom(replicationName, rc, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: %s", p.Name)
		return nil
	})
}

// claim returns the pods that rc controls after it adopted matching orphans and released those that no longer match.
func (r *replication) claim(ctx context.Context, rc *corev1.ReplicationController) ([]*corev1.Pod, error) {
	var mine, release, adopt []*corev1.Pod
	for _, p := range r.Caches.Pods.ByIndex(byController, string(rc.UID)) {
		if selects(rc, p) {
			mine = append(mine, p)
		} else if p.DeletionTimestamp == nil {
			release = append(release, p)
		}
	}
	if rc.DeletionTimestamp == nil {
		for _, p := range r.Caches.Pods.ByIndex(byController, orphansOf(rc.Namespace)) {
			if selects(rc, p) && api.IsPodActive(p) {
				adopt = append(adopt, p)
			}
		}
	}
	if len(release)+len(adopt) == 0 {
		return mine, nil
	}
	if len(adopt) > 0 {
		// A pod must not be adopted on behalf of what has just been deleted: it would be collected with it.
		now, err := r.Client.Get(ctx, api.ReplicationControllers, client.KeyOf(rc), client.GetOptions{})
		if err != nil {
			return nil, fmt.Errorf("read before adoption: %w", err)
		}
		if now.GetUID() != rc.UID || now.GetDeletionTimestamp() != nil {
			return mine, nil
		}
	}
	var w written
	change := func(refs func(*corev1.Pod) []metav1.OwnerReference) func(context.Context, *corev1.Pod) error {
		return func(ctx context.Context, p *corev1.Pod) error {
			return setOwners(ctx, r.Client, api.Pods, p, refs(p), &w)
		}
	}
	err := errors.Join(
		each(ctx, release, change(func(p *corev1.Pod) []metav1.OwnerReference {
			return slices.DeleteFunc(slices.Clone(p.OwnerReferences), func(o metav1.OwnerReference) bool { return o.UID == rc.UID })
		})),
		each(ctx, adopt, change(func(p *corev1.Pod) []metav1.OwnerReference {
			return append(slices.Clone(p.OwnerReferences), controllerRef(rc, api.ReplicationControllers))
		})),
	)
	if err := errors.Join(err, w.shown(ctx, r.Caches.Pods)); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(r.Caches.Pods.ByIndex(byController, string(rc.UID)), func(p *corev1.Pod) bool {
		return !selects(rc, p)
	}), nil
}

// setOwners replaces the owner references of o as the cache knows it.
func setOwners(ctx context.Context, c client.Interface, k *api.Kind, o api.Object, refs []metav1.OwnerReference, w *written) error {
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": o.GetUID(), "resourceVersion": o.GetResourceVersion(), "ownerReferences": refs,
	}})
	if err != nil {
		return fmt.Errorf("encode owners: %w", err)
	}
	out, err := c.Patch(ctx, k, client.KeyOf(o), client.Patch{Type: types.MergePatchType, Data: body}, client.PatchOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("set owners of %s: %w", o.GetName(), err)
	}
	if m, ok := out.(api.Object); ok {
		w.note(m.GetResourceVersion())
	}
	return nil
}

// writeStatus writes what is now true, and returns when to look again because a pod becomes available by itself.
func (r *replication) writeStatus(ctx context.Context, rc *corev1.ReplicationController, active []*corev1.Pod, failed error) (time.Duration, error) {
	if failed == nil {
		active = active[:0]
		for _, p := range r.Caches.Pods.ByIndex(byController, string(rc.UID)) {
			if api.IsPodActive(p) && selects(rc, p) {
				active = append(active, p)
			}
		}
	}
	now := r.Now()
	status, after := replicationStatus(rc, active, failed, now)
	if equality.Semantic.DeepEqual(rc.Status, status) {
		return after, nil
	}
	rc = rc.DeepCopy()
	rc.Status = status
	out, err := r.Client.Update(ctx, api.ReplicationControllers, rc, client.UpdateOptions{Subresource: "status"})
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("write status: %w", err)
	}
	if m, ok := out.(api.Object); ok {
		return after, r.Caches.RCs.WaitFor(ctx, m.GetResourceVersion())
	}
	return after, nil
}

func replicationStatus(rc *corev1.ReplicationController, active []*corev1.Pod, failed error, now time.Time) (corev1.ReplicationControllerStatus, time.Duration) {
	s := *rc.Status.DeepCopy()
	s.Replicas, s.FullyLabeledReplicas, s.ReadyReplicas, s.AvailableReplicas = int32(len(active)), 0, 0, 0
	s.ObservedGeneration = rc.Generation
	var after time.Duration
	var template labels.Selector = labels.Everything()
	if rc.Spec.Template != nil {
		template = labels.SelectorFromSet(maps.Clone(rc.Spec.Template.Labels))
	}
	for _, p := range active {
		if template.Matches(labels.Set(p.Labels)) {
			s.FullyLabeledReplicas++
		}
		wait, ready := availableIn(p, time.Duration(rc.Spec.MinReadySeconds)*time.Second, now)
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
	s.Conditions = slices.DeleteFunc(s.Conditions, func(c corev1.ReplicationControllerCondition) bool {
		return c.Type == corev1.ReplicationControllerReplicaFailure
	})
	if failed != nil {
		c := corev1.ReplicationControllerCondition{
			Type: corev1.ReplicationControllerReplicaFailure, Status: corev1.ConditionTrue,
			Reason: "FailedCreate", Message: failed.Error(), LastTransitionTime: metav1.NewTime(now),
		}
		for _, old := range rc.Status.Conditions {
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

func orOne(n *int32) *int32 {
	if n == nil {
		return new(int32(1))
	}
	return n
}
