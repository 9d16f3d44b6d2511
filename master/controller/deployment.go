package controller

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

// deployments brings the pods of each Deployment to its template, by the numbers that it writes into ReplicaSets, of which it makes one
// for each template; the replication controller does the rest. What a rollout has reached is in the ReplicaSets and their statuses alone, so
// the next Master goes on where this one ends.
type deployments struct {
	Config
	queue client.Queue
}

const deploymentController = "deployment-controller"

func newDeployments(c Config) loop {
	d := &deployments{Config: c, queue: client.NewQueue()}
	c.Caches.Deployments.OnChange(func(old, o *appsv1.Deployment) { d.queue.Add(client.KeyOf(cmp.Or(o, old))) })
	wake := wakeOwner(api.Deployments, d.queue.Add, selecting(c.Caches.Deployments, func(o *appsv1.Deployment) *metav1.LabelSelector { return o.Spec.Selector }))
	follow(c.Caches.ReplicaSets, wake)
	// Who replaces all its pods at once waits for the last of the old ones to go.
	c.Caches.Pods.OnChange(func(old, p *corev1.Pod) {
		if old == nil || p != nil && api.IsPodActive(p) {
			return
		}
		if ref := metav1.GetControllerOf(old); ref != nil && isOf(ref, api.ReplicaSets) {
			if rs, ok := c.Caches.ReplicaSets.Get(client.Key{Namespace: old.Namespace, Name: ref.Name}); ok {
				wake(rs)
			}
		}
	})
	return newLoop(deploymentController, d.queue, 5, d.reconcile)
}

func (d *deployments) reconcile(ctx context.Context, key client.Key) (time.Duration, error) {
	o, ok := d.Caches.Deployments.Get(key)
	if !ok {
		return 0, nil // its ReplicaSets are the garbage collector's
	}
	r, err := d.rollout(ctx, o)
	if err != nil {
		return 0, err
	}
	if o.DeletionTimestamp != nil {
		return 0, d.writeStatus(ctx, r, r.status())
	}
	if status, changed := r.pausedStatus(d.Now()); changed {
		return 0, d.writeStatus(ctx, r, status) // which brings it back
	}
	switch {
	case o.Spec.Paused, r.scaled():
		err = d.rescale(ctx, r)
	case o.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType:
		err = d.recreate(ctx, r)
	default:
		err = d.roll(ctx, r)
	}
	if err == nil && (o.Spec.Paused || r.complete(o.Status)) {
		err = d.forget(ctx, r)
	}
	r = d.again(r)
	if err != nil {
		status := r.status()
		if condition, is := refused(err); is {
			setDeploymentCondition(&status, condition, d.Now())
		}
		return 0, errors.Join(err, d.writeStatus(ctx, r, status))
	}
	if o.Spec.Paused || r.scaled() {
		return 0, d.writeStatus(ctx, r, r.status())
	}
	status, after := r.progress(d.Now())
	return after, d.writeStatus(ctx, r, status)
}

// rollout finds the ReplicaSets of a Deployment.
func (d *deployments) rollout(ctx context.Context, o *appsv1.Deployment) (*rollout, error) {
	selector := selectorOf(o.Spec.Selector)
	_, _, err := claim(ctx, d.Config, api.Deployments, o, api.ReplicaSets, d.Caches.ReplicaSets, func(rs *appsv1.ReplicaSet) (matches, adoptable bool) {
		return selector.Matches(labelsOf(rs)), rs.DeletionTimestamp == nil
	})
	if err != nil {
		return nil, err
	}
	return d.again(&rollout{Deployment: o}), nil
}

// again is r with what the caches show now.
func (d *deployments) again(r *rollout) *rollout {
	o := r.Deployment
	if now, ok := d.Caches.Deployments.Get(client.KeyOf(o)); ok && now.UID == o.UID {
		o = now
	}
	return newRollout(o, d.Caches.ReplicaSets.ByIndex(byController, string(o.UID)))
}

// roll moves a few pods from the old ReplicaSets to the new one, as many as surge and unavailability allow at the moment.
func (d *deployments) roll(ctx context.Context, r *rollout) error {
	current, err := d.ensureNew(ctx, r)
	if err != nil || current == nil {
		return err
	}
	if r = d.again(r); r.current == nil {
		return nil // the template has changed again, or somebody deleted the set: that brings us back
	}
	return d.resize(ctx, r, r.rollingStep())
}

// recreate ends all old pods before it makes new ones.
func (d *deployments) recreate(ctx context.Context, r *rollout) error {
	var sizes []size
	for _, rs := range r.old {
		if *orOne(rs.Spec.Replicas) != 0 {
			sizes = append(sizes, size{rs, 0})
		}
	}
	if len(sizes) > 0 {
		return d.resize(ctx, r, sizes)
	}
	for _, rs := range r.old {
		for _, p := range d.Caches.Pods.ByIndex(byController, string(rs.UID)) {
			if p.Status.Phase != corev1.PodFailed && p.Status.Phase != corev1.PodSucceeded {
				return nil // its going brings us back
			}
		}
	}
	current, err := d.ensureNew(ctx, r)
	if err != nil || current == nil {
		return err
	}
	if want := *orOne(r.Spec.Replicas); *orOne(current.Spec.Replicas) != want {
		return d.resize(ctx, r, []size{{current, want}})
	}
	return nil
}

// rescale follows a change of the number alone: a rollout rests meanwhile, and each ReplicaSet takes its share.
func (d *deployments) rescale(ctx context.Context, r *rollout) error {
	return d.resize(ctx, r, r.rescaled())
}

// resize writes the numbers of ReplicaSets, and returns when the cache shows them.
func (d *deployments) resize(ctx context.Context, r *rollout, sizes []size) error {
	var w written
	err := each(ctx, sizes, func(ctx context.Context, s size) error {
		from := *orOne(s.set.Spec.Replicas)
		rs := s.set.DeepCopy()
		rs.Spec.Replicas = &s.to
		if !r.note(rs) && from == s.to {
			return nil
		}
		out, err := d.Client.Update(ctx, api.ReplicaSets, rs, client.UpdateOptions{})
		if err := noteWrite(out, err, &w, "scale "+rs.Name); err != nil {
			return err
		}
		if from != s.to {
			d.scaledEvent(r.Deployment, rs.Name, from, s.to)
		}
		return nil
	})
	return errors.Join(err, w.shown(ctx, d.Caches.ReplicaSets))
}

func (d *deployments) scaledEvent(o *appsv1.Deployment, set string, from, to int32) {
	way := "up"
	if to < from {
		way = "down"
	}
	d.Events.EventFrom(deploymentController, o, corev1.EventTypeNormal, "ScalingReplicaSet", "Scaled %s replica set %s from %d to %d", way, set, from, to)
}

// forget deletes the oldest ReplicaSets without pods, beyond the history that is wanted.
func (d *deployments) forget(ctx context.Context, r *rollout) error {
	if r.Spec.RevisionHistoryLimit == nil {
		return nil
	}
	var w written
	err := each(ctx, r.forgotten(int(*r.Spec.RevisionHistoryLimit)), func(ctx context.Context, rs *appsv1.ReplicaSet) error {
		return deleteObject(ctx, d.Client, api.ReplicaSets, rs, nil, &w)
	})
	return errors.Join(err, w.shown(ctx, d.Caches.ReplicaSets))
}

func (d *deployments) writeStatus(ctx context.Context, r *rollout, status appsv1.DeploymentStatus) error {
	return updateStatus(ctx, d.Config, api.Deployments, d.Caches.Deployments, r.Deployment, func(o *appsv1.Deployment) { o.Status = status })
}

// byAge orders ReplicaSets, the youngest last.
func byAge(a, b *appsv1.ReplicaSet) int {
	return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(revision(a), revision(b)), cmp.Compare(a.Name, b.Name))
}

// sortedByAge returns a copy of sets, the oldest first.
func sortedByAge(sets []*appsv1.ReplicaSet) []*appsv1.ReplicaSet {
	return slices.SortedFunc(slices.Values(sets), byAge)
}
