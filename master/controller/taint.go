package controller

import (
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

// taintEvictions deletes pods from Nodes whose taints say NoExecute, each when its tolerations have run out, as Kubernetes documents it. The taint
// that gossip causes is not its business: pods of machines that do not answer are replaced before they go, by nodeLifecycle. Keys are Nodes' names.
type taintEvictions struct {
	Config
	queue client.Queue
}

const taintEvictionName = "taint-eviction-controller"

func newTaintEvictions(c Config) loop {
	e := &taintEvictions{Config: c, queue: client.NewQueue()}
	c.Caches.Nodes.OnChange(func(_, n *corev1.Node) {
		if n != nil && len(n.Spec.Taints) > 0 {
			e.queue.Add(client.Key{Name: n.Name})
		}
	})
	c.Caches.Pods.OnChange(func(_, p *corev1.Pod) {
		if p != nil && p.Spec.NodeName != "" && p.DeletionTimestamp == nil {
			if n, ok := c.Caches.Nodes.Get(client.Key{Name: p.Spec.NodeName}); ok && len(n.Spec.Taints) > 0 {
				e.queue.Add(client.Key{Name: n.Name})
			}
		}
	})
	return newLoop(taintEvictionName, e.queue, 1, e.reconcile)
}

func (e *taintEvictions) reconcile(ctx context.Context, key client.Key) (time.Duration, error) {
	n, ok := e.Caches.Nodes.Get(key)
	if !ok {
		return 0, nil
	}
	now := e.Now()
	taints := slices.DeleteFunc(slices.Clone(n.Spec.Taints), func(t corev1.Taint) bool {
		return t.Effect != corev1.TaintEffectNoExecute || t.Key == corev1.TaintNodeUnreachable
	})
	if slices.ContainsFunc(taints, func(t corev1.Taint) bool { return t.TimeAdded == nil }) {
		return 0, e.stamp(ctx, n, now)
	}
	off := outOfService(n)
	if len(taints) == 0 && off == nil {
		return 0, nil
	}
	var next time.Duration
	var w written
	var errs []error
	for _, p := range e.Caches.Pods.ByIndex(byNode, n.Name) {
		if off != nil && !slices.ContainsFunc(p.Spec.Tolerations, func(t corev1.Toleration) bool { return tolerates(t, *off) }) {
			errs = append(errs, e.evict(ctx, p, new(int64), &w))
			continue
		}
		if p.DeletionTimestamp != nil || p.Annotations[corev1.MirrorPodAnnotationKey] != "" {
			continue
		}
		due, leaves := leavesAt(p, taints)
		if wait := due.Sub(now); leaves && wait <= 0 {
			errs = append(errs, e.evict(ctx, p, nil, &w))
		} else if leaves && (next == 0 || wait < next) {
			next = wait
		}
	}
	return next, errors.Join(append(errs, w.shown(ctx, e.Caches.Pods))...)
}

// stamp notes in a Node's taints since when they are there: tolerations count from that, whoever is Master.
func (e *taintEvictions) stamp(ctx context.Context, n *corev1.Node, now time.Time) error {
	n = n.DeepCopy()
	for i := range n.Spec.Taints {
		if t := &n.Spec.Taints[i]; t.Effect == corev1.TaintEffectNoExecute && t.TimeAdded == nil {
			t.TimeAdded = new(metav1.NewTime(now))
		}
	}
	out, err := updated[*corev1.Node](e.Client.Update(ctx, api.Nodes, n, client.UpdateOptions{}))
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("stamp taints of node %s: %w", n.Name, err)
	}
	return e.Caches.Nodes.WaitFor(ctx, out.ResourceVersion)
}

// outOfService returns the taint by which somebody says that a machine that does not answer is off for good, or nil.
func outOfService(n *corev1.Node) *corev1.Taint {
	if c := nodeCondition(n, corev1.NodeReady); c == nil || c.Status == corev1.ConditionTrue {
		return nil
	}
	for i := range n.Spec.Taints {
		if t := &n.Spec.Taints[i]; t.Key == corev1.TaintNodeOutOfService && t.Effect != corev1.TaintEffectPreferNoSchedule {
			return t
		}
	}
	return nil
}

// leavesAt returns when a pod has to leave a Node with taints that say NoExecute, if it has to: when it does not tolerate one, since that is there; else
// after the shortest time that any of its tolerations gives.
func leavesAt(p *corev1.Pod, taints []corev1.Taint) (due time.Time, leaves bool) {
	sooner := func(t time.Time) {
		if !leaves || t.Before(due) {
			due, leaves = t, true
		}
	}
	for _, taint := range taints {
		tolerated := false
		for _, t := range p.Spec.Tolerations {
			if !tolerates(t, taint) {
				continue
			}
			tolerated = true
			if t.TolerationSeconds != nil {
				sooner(taint.TimeAdded.Add(max(0, time.Duration(*t.TolerationSeconds)*time.Second)))
			}
		}
		if !tolerated {
			sooner(taint.TimeAdded.Time)
		}
	}
	return due, leaves
}

// evict marks a pod, so that its end counts as no failure of its own, and deletes it.
func (e *taintEvictions) evict(ctx context.Context, p *corev1.Pod, grace *int64, w *written) error {
	if !api.IsPodDisrupted(p) && !api.IsPodTerminal(p) {
		marked := p.DeepCopy()
		api.SetPodCondition(marked, corev1.PodCondition{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: reasonEvicted, Message: "Taint manager: deleting due to NoExecute taint",
			ObservedGeneration: p.Generation,
		}, e.Now())
		_, err := e.Client.Update(ctx, api.Pods, marked, client.UpdateOptions{Subresource: "status"})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) { // to go it has to anyhow
			return fmt.Errorf("mark pod %s/%s: %w", p.Namespace, p.Name, err)
		}
	}
	e.Events.EventFrom(taintEvictionName, p, corev1.EventTypeNormal, "TaintManagerEviction", "Marking for deletion Pod %s/%s", p.Namespace, p.Name)
	return deleteObject(ctx, e.Client, api.Pods, p, grace, w)
}
