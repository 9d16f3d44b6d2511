package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

// rolling carries out rolling updates of ReplicationControllers, which are written on them (api.RollingUpdate): of their own template,
// by marking pods of another version, a few at a time, so that replication replaces them as it does those of a dying
// machine; or from another ReplicationController, by moving replicas over. Ready pods are never fewer than are wanted.
type rolling struct {
	Config
	queue client.Queue
}

const (
	rollingName   = "rolling-update"
	reasonRolling = "RollingUpdate" // of the mark
)

func newRolling(c Config) loop {
	r := &rolling{Config: c, queue: client.NewQueue()}
	wake := func(rc *corev1.ReplicationController) {
		if rc != nil && rc.Annotations[api.RollingUpdateAnnotation] != "" {
			r.queue.Add(client.KeyOf(rc))
		}
	}
	c.Caches.RCs.OnChange(func(old, rc *corev1.ReplicationController) {
		wake(rc)
		r.wakeTaker(cmp.Or(rc, old))
	})
	follow(c.Caches.Pods, func(p api.Object) {
		if ref := metav1.GetControllerOf(p); ref != nil && isOf(ref, api.ReplicationControllers) {
			rc, _ := c.Caches.RCs.Get(client.Key{Namespace: p.GetNamespace(), Name: ref.Name})
			wake(rc)
			r.wakeTaker(rc)
		}
	})
	return newLoop(rollingName, r.queue, 2, r.reconcile)
}

// wakeTaker wakes those who take over the replicas of an RC; nil is none.
func (r *rolling) wakeTaker(rc *corev1.ReplicationController) {
	if rc == nil {
		return
	}
	for _, o := range r.Caches.RCs.List(rc.Namespace, nil) {
		if u, err := api.RollingUpdateOf(o); err == nil && u != nil && u.From == rc.Name {
			r.queue.Add(client.KeyOf(o))
		}
	}
}

func (r *rolling) reconcile(ctx context.Context, key client.Key) (time.Duration, error) {
	return 0, r.roll(ctx, key)
}

func (r *rolling) roll(ctx context.Context, key client.Key) error {
	rc, ok := r.Caches.RCs.Get(key)
	if !ok || rc.DeletionTimestamp != nil {
		return nil
	}
	u, err := api.RollingUpdateOf(rc)
	switch {
	case err != nil:
		r.Events.EventFrom(rollingName, rc, corev1.EventTypeWarning, "BadRollingUpdate", "%v", err)
		return nil
	case u == nil || u.Paused:
		return nil
	case u.From != "":
		return r.takeOver(ctx, rc, u)
	}
	return r.renew(ctx, rc, u)
}

func (r *rolling) podsOf(rc *corev1.ReplicationController) (active []*corev1.Pod) {
	for _, p := range r.Caches.Pods.ByIndex(byController, string(rc.UID)) {
		if api.IsPodActive(p) {
			active = append(active, p)
		}
	}
	return active
}

// renew marks pods of other versions, and takes the mark off those that are of the right one again after a rollback.
func (r *rolling) renew(ctx context.Context, rc *corev1.ReplicationController, u *api.RollingUpdate) error {
	version := ""
	if rc.Spec.Template != nil {
		version = api.VersionOf(rc.Spec.Template.Annotations)
	}
	var mark, pardon, serving []*corev1.Pod
	marked := 0
	for _, p := range r.podsOf(rc) {
		c := api.PodCondition(p, corev1.DisruptionTarget)
		switch ours := c != nil && c.Reason == reasonRolling; {
		case api.VersionOf(p.Annotations) == version:
			if ours {
				pardon = append(pardon, p)
			}
		case api.IsPodDisrupted(p):
			marked++
		case !api.IsPodReady(p):
			mark = append(mark, p) // nobody misses it
		default:
			serving = append(serving, p)
		}
	}
	rankForDeletion(serving, nil)
	if n := min(len(serving), u.Surge-marked-len(mark)); n > 0 {
		mark = append(mark, serving[:n]...)
	}
	var w written
	err := errors.Join(
		each(ctx, pardon, func(ctx context.Context, p *corev1.Pod) error { return r.setMark(ctx, p, false, &w) }),
		each(ctx, mark, func(ctx context.Context, p *corev1.Pod) error { return r.setMark(ctx, p, true, &w) }),
	)
	return errors.Join(err, w.shown(ctx, r.Caches.Pods))
}

func (r *rolling) setMark(ctx context.Context, p *corev1.Pod, on bool, w *written) error {
	p = p.DeepCopy()
	if on {
		api.SetPodCondition(p, corev1.PodCondition{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: reasonRolling, Message: "to be replaced by a pod of the new template",
		}, r.Now())
	} else {
		p.Status.Conditions = slices.DeleteFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.DisruptionTarget })
	}
	out, err := r.Client.Update(ctx, api.Pods, p, client.UpdateOptions{Subresource: "status"})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return noteWrite(out, err, w, fmt.Sprintf("mark pod %s/%s", p.Namespace, p.Name))
}

// takeOver moves replicas from another RC, one step.
func (r *rolling) takeOver(ctx context.Context, rc *corev1.ReplicationController, u *api.RollingUpdate) error {
	from, ok := r.Caches.RCs.Get(client.Key{Namespace: rc.Namespace, Name: u.From})
	if !ok || from.DeletionTimestamp != nil {
		return r.setReplicas(ctx, rc, u.Replicas)
	}
	mine, theirs := r.podsOf(rc), r.podsOf(from)
	s := step{
		want: int(u.Replicas), surge: u.Surge, mine: int(*orOne(rc.Spec.Replicas)), theirs: int(*orOne(from.Spec.Replicas)),
		myPods: len(mine), theirPods: len(theirs), available: int(rc.Status.AvailableReplicas),
	}
	if rc.Status.ObservedGeneration != rc.Generation {
		return nil // what is available is not known yet; its status will say
	}
	up, down, done := s.next()
	if done {
		return r.finish(ctx, rc, from)
	}
	return errors.Join(r.setReplicas(ctx, rc, int32(up)), r.setReplicas(ctx, from, int32(down)))
}

// step is how far a takeover is.
type step struct {
	want, surge       int
	mine, theirs      int // replicas asked for
	myPods, theirPods int
	available         int // of mine
}

// next is how many replicas each of the two should have next. There are never more pods than want and surge, and as many of the others as mine
// lack.
func (s step) next() (mine, theirs int, done bool) {
	total := max(s.mine, s.myPods) + max(s.theirs, s.theirPods)
	mine = min(s.want, s.mine+max(0, s.want+s.surge-total))
	mine = max(mine, min(s.mine, s.want))
	theirs = min(s.theirs, max(0, s.want-s.available))
	return mine, theirs, s.mine == s.want && s.available >= s.want && s.theirs == 0 && s.theirPods == 0
}

func (r *rolling) setReplicas(ctx context.Context, rc *corev1.ReplicationController, n int32) error {
	if *orOne(rc.Spec.Replicas) == n {
		return nil
	}
	rc = rc.DeepCopy()
	rc.Spec.Replicas = &n
	out, err := r.Client.Update(ctx, api.ReplicationControllers, rc, client.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	var w written
	return errors.Join(noteWrite(out, err, &w, "scale "+rc.Name), w.shown(ctx, r.Caches.RCs))
}

// finish deletes the RC that has no pods any more.
func (r *rolling) finish(ctx context.Context, rc, from *corev1.ReplicationController) error {
	_, err := r.Client.Delete(ctx, api.ReplicationControllers, client.KeyOf(from), client.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &from.UID}, Propagation: new(metav1.DeletePropagationBackground),
	})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("delete %s, which has no pods any more: %w", from.Name, err)
	}
	r.Events.EventFrom(rollingName, rc, corev1.EventTypeNormal, "RollingUpdateComplete", "All pods of %s are replaced", from.Name)
	return nil
}
