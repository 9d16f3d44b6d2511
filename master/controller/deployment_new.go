package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"

	"shoal/internal/api"
	"shoal/internal/client"
)

// ensureNew returns the ReplicaSet of the present template, which it makes or brings up to date. Nil without an error: not yet, the key comes back.
func (d *deployments) ensureNew(ctx context.Context, r *rollout) (*appsv1.ReplicaSet, error) {
	rs := r.current
	var err error
	if rs == nil {
		rs, err = d.createSet(ctx, r)
	} else if changed := rs.DeepCopy(); r.describe(changed) {
		rs, err = d.writeSet(ctx, changed)
	}
	if err != nil || rs == nil {
		return nil, err
	}
	return rs, d.noteRevision(ctx, r, rs.Annotations[revisionAnnotation])
}

func (d *deployments) writeSet(ctx context.Context, rs *appsv1.ReplicaSet) (*appsv1.ReplicaSet, error) {
	out, err := d.Client.Update(ctx, api.ReplicaSets, rs, client.UpdateOptions{})
	if err != nil {
		return nil, fmt.Errorf("update %s: %w", rs.Name, err)
	}
	return d.shownSet(ctx, out)
}

// shownSet returns a ReplicaSet that was written when the cache shows it.
func (d *deployments) shownSet(ctx context.Context, out any) (*appsv1.ReplicaSet, error) {
	rs, ok := out.(*appsv1.ReplicaSet)
	if !ok {
		return nil, fmt.Errorf("the answer is a %T", out)
	}
	return rs, d.Caches.ReplicaSets.WaitFor(ctx, rs.ResourceVersion)
}

// errRefused is that of a ReplicaSet which could not be made.
type errRefused struct{ error }

func (e errRefused) Unwrap() error { return e.error }

func (d *deployments) createSet(ctx context.Context, r *rollout) (*appsv1.ReplicaSet, error) {
	rs, err := r.newSet()
	if err != nil {
		return nil, err
	}
	out, err := d.Client.Create(ctx, api.ReplicaSets, rs, client.CreateOptions{})
	switch {
	case apierrors.IsAlreadyExists(err):
		return nil, d.collided(ctx, r, rs)
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return nil, nil
	case err != nil:
		if ctx.Err() == nil {
			d.Events.EventFrom(deploymentController, r.Deployment, corev1.EventTypeWarning, "ReplicaSetCreateError", "Failed to create new replica set %q: %v", rs.Name, err)
		}
		return nil, errRefused{fmt.Errorf("create replica set %s: %w", rs.Name, err)}
	}
	if n := wanted(rs); n > 0 {
		d.scaledEvent(r.Deployment, rs.Name, 0, n)
	}
	return d.shownSet(ctx, out)
}

// newSet is the ReplicaSet of the present template, which begins with as many pods as the surge allows.
func (r *rollout) newSet() (*appsv1.ReplicaSet, error) {
	hash, err := templateHash(r.Deployment)
	if err != nil {
		return nil, err
	}
	t := *r.Spec.Template.DeepCopy()
	t.Labels = maps.Clone(t.Labels)
	if t.Labels == nil {
		t.Labels = map[string]string{}
	}
	t.Labels[appsv1.DefaultDeploymentUniqueLabelKey] = hash
	selector := r.Spec.Selector.DeepCopy()
	if selector.MatchLabels == nil {
		selector.MatchLabels = map[string]string{}
	}
	selector.MatchLabels[appsv1.DefaultDeploymentUniqueLabelKey] = hash
	surge, _ := r.bounds()
	n := r.want()
	if r.Spec.Strategy.Type == appsv1.RollingUpdateDeploymentStrategyType {
		n = max(0, min(n, n+surge-present(r.all...)))
	}
	rs := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{
			Name: r.Name + "-" + hash, Namespace: r.Namespace, Labels: maps.Clone(t.Labels),
			OwnerReferences: []metav1.OwnerReference{controllerRef(r.Deployment, api.Deployments)},
		},
		Spec: appsv1.ReplicaSetSpec{Replicas: &n, MinReadySeconds: r.Spec.MinReadySeconds, Selector: selector, Template: t},
	}
	r.describe(rs)
	r.note(rs)
	return rs, nil
}

// templateHash names a template. Another name is taken when it is found to be that of a different one.
func templateHash(d *appsv1.Deployment) (string, error) {
	text, err := json.Marshal(d.Spec.Template)
	if err != nil {
		return "", fmt.Errorf("encode template: %w", err)
	}
	h := fnv.New32a()
	_, _ = h.Write(text)
	if n := d.Status.CollisionCount; n != nil {
		_, _ = fmt.Fprint(h, *n)
	}
	return rand.SafeEncodeString(strconv.FormatUint(uint64(h.Sum32()), 10)), nil
}

// collided counts a name that another template has, so that the next is a different one. The set is ours when the cache was only behind.
func (d *deployments) collided(ctx context.Context, r *rollout, rs *appsv1.ReplicaSet) error {
	o, err := d.Client.Get(ctx, api.ReplicaSets, client.KeyOf(rs), client.GetOptions{})
	if apierrors.IsNotFound(err) {
		return errors.New("a replica set was there and is gone")
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", rs.Name, err)
	}
	there, ok := o.(*appsv1.ReplicaSet)
	if ref := metav1.GetControllerOf(o); ok && ref != nil && ref.UID == r.UID && sameTemplate(&there.Spec.Template, &r.Spec.Template) {
		return d.Caches.ReplicaSets.WaitFor(ctx, o.GetResourceVersion())
	}
	status := *r.Status.DeepCopy()
	n := int32(1)
	if status.CollisionCount != nil {
		n += *status.CollisionCount
	}
	status.CollisionCount = &n
	return d.writeStatus(ctx, r, status)
}

// noteRevision tells kubectl which revision is the present one. Written with the status, as in Kubernetes, it is no new generation.
func (d *deployments) noteRevision(ctx context.Context, r *rollout, revision string) error {
	return updateStatus(ctx, d.Config, api.Deployments, d.Caches.Deployments, r.Deployment, func(o *appsv1.Deployment) { annotate(o, revisionAnnotation, revision) })
}
