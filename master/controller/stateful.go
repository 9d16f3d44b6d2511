package controller

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

// statefulSets keeps the pods of each StatefulSet: each has a number, which is its name, its host name and its volumes, and there are never two of
// one number. Unless they are managed in parallel, each waits for the one before. A pod whose machine is gone is not replaced: nobody knows
// that it does not run. It comes back with the machine, or is replaced when the Node is deleted.
type statefulSets struct {
	Config
	queue client.Queue
}

const statefulController = "statefulset-controller"

func newStatefulSets(c Config) loop {
	s := &statefulSets{Config: c, queue: client.NewQueue()}
	c.Caches.StatefulSets.OnChange(func(old, o *appsv1.StatefulSet) { s.queue.Add(client.KeyOf(cmp.Or(o, old))) })
	follow(c.Caches.Pods, wakeOwner(api.StatefulSets, s.queue.Add,
		selecting(c.Caches.StatefulSets, func(o *appsv1.StatefulSet) *metav1.LabelSelector { return o.Spec.Selector })))
	return newLoop(statefulController, s.queue, 5, s.reconcile)
}

func (s *statefulSets) reconcile(ctx context.Context, key client.Key) (time.Duration, error) {
	o, ok := s.Caches.StatefulSets.Get(key)
	if !ok || o.DeletionTimestamp != nil {
		return 0, nil // its pods are the garbage collector's
	}
	h, err := revise(ctx, s.Config, versioned{
		Object: o, kind: api.StatefulSets, template: &o.Spec.Template, selector: selectorOf(o.Spec.Selector), collisions: o.Status.CollisionCount,
	})
	if errors.Is(err, errCollision) {
		status := *o.Status.DeepCopy()
		status.CollisionCount = new(deref(status.CollisionCount) + 1)
		return 0, s.writeStatus(ctx, o, status)
	}
	if err != nil {
		return 0, err
	}
	pods, err := s.pods(ctx, o)
	if err != nil {
		return 0, err
	}
	p := newStatefulPlan(o, h, pods, s.Now())
	workErr := s.act(ctx, o, p)
	if workErr == nil {
		workErr = s.forget(ctx, o, h, p)
	}
	if pods, err = s.pods(ctx, o); err != nil {
		return 0, errors.Join(workErr, err)
	}
	now := newStatefulPlan(o, h, pods, s.Now())
	status := now.status()
	return now.after, errors.Join(workErr, s.writeStatus(ctx, o, status))
}

// pods are those that the set controls: of those that match, only they can be adopted whose names are its own.
func (s *statefulSets) pods(ctx context.Context, o *appsv1.StatefulSet) ([]*corev1.Pod, error) {
	selector := selectorOf(o.Spec.Selector)
	mine, changed, err := claim(ctx, s.Config, api.StatefulSets, o, api.Pods, s.Caches.Pods, func(p *corev1.Pod) (matches, adoptable bool) {
		_, is := ordinalOf(o, p)
		return is && selector.Matches(labelsOf(p)), api.IsPodActive(p)
	})
	if changed {
		mine = s.Caches.Pods.ByIndex(byController, string(o.UID))
	}
	return mine, err
}

// forget deletes revisions that are neither of a pod, nor the present one, nor the one before.
func (s *statefulSets) forget(ctx context.Context, o *appsv1.StatefulSet, h history, p *statefulPlan) error {
	pods := slices.Clone(p.all)
	if p.before != nil { // as if a pod had it
		pods = append(pods, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{appsv1.ControllerRevisionHashLabelKey: p.before.Labels[appsv1.ControllerRevisionHashLabelKey]}}})
	}
	return forgetRevisions(ctx, s.Config, h, o.Spec.RevisionHistoryLimit, pods)
}

// act makes and deletes pods, and returns when the cache shows it.
func (s *statefulSets) act(ctx context.Context, o *appsv1.StatefulSet, p *statefulPlan) error {
	var w written
	remove := each(ctx, p.remove, func(ctx context.Context, pod *corev1.Pod) error {
		if n, is := ordinalOf(o, pod); is && !p.within(n) {
			if err := s.leave(ctx, o, n, pod); err != nil {
				return err
			}
		}
		if err := deleteObject(ctx, s.Client, api.Pods, pod, nil, &w); err != nil {
			return err
		}
		s.Events.EventFrom(statefulController, o, corev1.EventTypeNormal, "SuccessfulDelete", "delete Pod %s in StatefulSet %s successful", pod.Name, o.Name)
		return nil
	})
	if p.held {
		s.sayHeld(statefulController, o)
	}
	create := each(ctx, p.create, func(ctx context.Context, n int) error { return s.create(ctx, o, p, n, &w) })
	return errors.Join(remove, create, w.shown(ctx, s.Caches.Pods))
}

func (s *statefulSets) create(ctx context.Context, o *appsv1.StatefulSet, p *statefulPlan, n int, w *written) error {
	for _, t := range o.Spec.VolumeClaimTemplates {
		if ready, err := s.claim(ctx, o, &t, n); err != nil || !ready {
			return err
		}
	}
	pod, err := p.newPod(n)
	if err != nil {
		return err
	}
	out, err := s.Client.Create(ctx, api.Pods, pod, client.CreateOptions{})
	switch {
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return nil
	case apierrors.IsAlreadyExists(err): // the cache is behind, or it is another's: then we are told when it goes
		s.Events.EventFrom(statefulController, o, corev1.EventTypeWarning, "FailedCreate", "Pod %s exists and is not the set's", pod.Name)
		return fmt.Errorf("create pod %s: %w", pod.Name, err)
	case err != nil:
		if ctx.Err() == nil {
			s.Events.EventFrom(statefulController, o, corev1.EventTypeWarning, "FailedCreate", "create Pod %s in StatefulSet %s failed error: %v", pod.Name, o.Name, err)
		}
		return fmt.Errorf("create pod %s: %w", pod.Name, err)
	}
	s.Events.EventFrom(statefulController, o, corev1.EventTypeNormal, "SuccessfulCreate", "create Pod %s in StatefulSet %s successful", pod.Name, o.Name)
	return noteWrite(out, nil, w, "create pod")
}

// claim makes a pod's volume claim, if it is not there. One that is being deleted is waited for.
func (s *statefulSets) claim(ctx context.Context, o *appsv1.StatefulSet, t *corev1.PersistentVolumeClaim, n int) (ready bool, err error) {
	c := newClaimOf(o, t, n)
	if there, ok := s.Caches.Claims.Get(client.KeyOf(c)); ok {
		return there.DeletionTimestamp == nil, nil
	}
	out, err := s.Client.Create(ctx, api.PersistentVolumeClaims, c, client.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return true, nil
	}
	var w written
	if err := noteWrite(out, err, &w, "create claim "+c.Name); err != nil {
		return false, err
	}
	return true, w.shown(ctx, s.Caches.Claims)
}

// leave gives the claims of a pod that is one too many to that pod, so that they go with it, when the set wants that.
func (s *statefulSets) leave(ctx context.Context, o *appsv1.StatefulSet, n int, pod *corev1.Pod) error {
	policy := o.Spec.PersistentVolumeClaimRetentionPolicy
	if policy == nil || policy.WhenScaled != appsv1.DeletePersistentVolumeClaimRetentionPolicyType {
		return nil
	}
	var w written
	for _, t := range o.Spec.VolumeClaimTemplates {
		c, ok := s.Caches.Claims.Get(client.Key{Namespace: o.Namespace, Name: claimName(o, &t, n)})
		if !ok {
			continue
		}
		refs := append(without(c, o.UID), metav1.OwnerReference{APIVersion: "v1", Kind: api.Pods.Kind, Name: pod.Name, UID: pod.UID})
		if err := setOwners(ctx, s.Client, api.PersistentVolumeClaims, c, refs, &w); err != nil {
			return err
		}
	}
	return w.shown(ctx, s.Caches.Claims)
}

func (s *statefulSets) writeStatus(ctx context.Context, o *appsv1.StatefulSet, status appsv1.StatefulSetStatus) error {
	return updateStatus(ctx, s.Config, api.StatefulSets, s.Caches.StatefulSets, o, func(o *appsv1.StatefulSet) { o.Status = status })
}

func claimName(o *appsv1.StatefulSet, t *corev1.PersistentVolumeClaim, n int) string {
	return fmt.Sprintf("%s-%s-%d", t.Name, o.Name, n)
}

func newClaimOf(o *appsv1.StatefulSet, t *corev1.PersistentVolumeClaim, n int) *corev1.PersistentVolumeClaim {
	c := t.DeepCopy()
	c.Name, c.Namespace, c.Status = claimName(o, t, n), o.Namespace, corev1.PersistentVolumeClaimStatus{}
	l := maps.Clone(c.Labels)
	if l == nil {
		l = map[string]string{}
	}
	maps.Copy(l, o.Spec.Selector.MatchLabels)
	c.Labels = l
	if p := o.Spec.PersistentVolumeClaimRetentionPolicy; p != nil && p.WhenDeleted == appsv1.DeletePersistentVolumeClaimRetentionPolicyType {
		c.OwnerReferences = append(c.OwnerReferences, metav1.OwnerReference{
			APIVersion: appsv1.SchemeGroupVersion.String(), Kind: api.StatefulSets.Kind, Name: o.Name, UID: o.UID,
		})
	}
	return c
}

// templateOf is the template that a revision keeps.
func templateOf(r *appsv1.ControllerRevision) (*corev1.PodTemplateSpec, error) {
	var data struct {
		Spec struct {
			Template corev1.PodTemplateSpec `json:"template"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(r.Data.Raw, &data); err != nil {
		return nil, fmt.Errorf("read revision %s: %w", r.Name, err)
	}
	return &data.Spec.Template, nil
}
