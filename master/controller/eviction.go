package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

// evict moves the pods of a Node without its peer, each once its toleration has run out and it is the Node's turn, and returns when the next one
// is due. A pod with a controller is marked, so that a replacement is made before it goes; its controller deletes it
// once that is ready, and then it is removed for good here, because its Node cannot confirm. A bare pod is removed.
func (l *nodeLifecycle) evict(ctx context.Context, n *corev1.Node, pods []*corev1.Pod, out *outage, now time.Time) (time.Duration, error) {
	var next time.Duration
	from := out.since
	if t := unreachable(n, corev1.TaintEffectNoExecute); t != nil && t.TimeAdded != nil && !t.TimeAdded.After(now) {
		from = t.TimeAdded.Time
	}
	due := make([]*corev1.Pod, 0, len(pods))
	for _, p := range pods {
		if !out.evict {
			continue
		}
		grace, forever := l.tolerance(p)
		if forever {
			continue
		}
		if wait := from.Add(grace + out.turn).Sub(now); wait > 0 {
			if next == 0 || wait < next {
				next = wait
			}
			continue
		}
		due = append(due, p)
	}
	var w written
	var errs []error
	if out.gone {
		errs = append(errs, each(ctx, pods, func(ctx context.Context, p *corev1.Pod) error {
			return l.setUnready(ctx, p, now, &w)
		}))
		errs = append(errs, w.shown(ctx, l.Caches.Pods))
	}
	errs = append(errs, each(ctx, due, func(ctx context.Context, p *corev1.Pod) error {
		// setUnready may just have written it: what the cache has now is what a status write must start from.
		p, ok := l.Caches.Pods.Get(client.KeyOf(p))
		if !ok || p.Spec.NodeName != n.Name {
			return nil
		}
		return l.evictPod(ctx, p, now, &w)
	}))
	return next, errors.Join(append(errs, w.shown(ctx, l.Caches.Pods))...)
}

func (l *nodeLifecycle) evictPod(ctx context.Context, p *corev1.Pod, now time.Time, w *written) error {
	owner := metav1.GetControllerOf(p)
	switch {
	case owner != nil && owner.Kind == "StatefulSet":
		// Two of one name must never run: it stays until somebody says that the machine is really off.
		return l.markDisrupted(ctx, p, now, w)
	case p.DeletionTimestamp != nil || owner == nil || api.IsPodTerminal(p):
		l.Events.EventFrom(nodeLifecycleName, p, corev1.EventTypeNormal, "TaintManagerEviction", "Removing pod %s/%s from a node that does not answer", p.Namespace, p.Name)
		return deleteObject(ctx, l.Client, api.Pods, p, new(int64), w)
	}
	return l.markDisrupted(ctx, p, now, w)
}

func (l *nodeLifecycle) markDisrupted(ctx context.Context, p *corev1.Pod, now time.Time, w *written) error {
	if api.IsPodDisrupted(p) || p.DeletionTimestamp != nil {
		return nil
	}
	p = p.DeepCopy()
	api.SetPodCondition(p, corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: reasonEvicted,
		Message: "Taint manager: its node does not answer, a replacement is being made",
	}, now)
	l.Events.EventFrom(nodeLifecycleName, p, corev1.EventTypeNormal, "TaintManagerEviction", "Marking for deletion Pod %s/%s", p.Namespace, p.Name)
	return l.writePod(ctx, p, w)
}

// setUnready takes p out of its Services.
func (l *nodeLifecycle) setUnready(ctx context.Context, p *corev1.Pod, now time.Time, w *written) error {
	c := api.PodCondition(p, corev1.PodReady)
	if c == nil || c.Status != corev1.ConditionTrue || api.IsPodTerminal(p) {
		return nil
	}
	p = p.DeepCopy()
	api.SetPodCondition(p, corev1.PodCondition{
		Type: corev1.PodReady, Status: corev1.ConditionFalse, Reason: "NodeUnreachable",
		Message: "its node does not answer", ObservedGeneration: c.ObservedGeneration,
	}, now)
	return l.writePod(ctx, p, w)
}

// writePod writes p's status, provided nobody wrote p since: its peer may be back.
func (l *nodeLifecycle) writePod(ctx context.Context, p *corev1.Pod, w *written) error {
	out, err := l.Client.Update(ctx, api.Pods, p, client.UpdateOptions{Subresource: "status"})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return noteWrite(out, err, w, fmt.Sprintf("write status of pod %s/%s", p.Namespace, p.Name))
}

// tolerance returns how long p may stay on a Node with the NoExecute taint.
func (l *nodeLifecycle) tolerance(p *corev1.Pod) (grace time.Duration, forever bool) {
	taint := corev1.Taint{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute}
	found := false
	for _, t := range p.Spec.Tolerations {
		if !tolerates(t, taint) {
			continue
		}
		if t.TolerationSeconds == nil {
			if !found {
				forever = true
			}
			continue
		}
		// Of several that match, the shortest counts, as in Kubernetes.
		d := max(0, time.Duration(*t.TolerationSeconds)*time.Second)
		if !found || d < grace {
			grace = d
		}
		found, forever = true, false
	}
	if !found && !forever {
		grace = l.EvictionGrace
	}
	return grace, forever
}

func tolerates(t corev1.Toleration, taint corev1.Taint) bool {
	if t.Effect != "" && t.Effect != taint.Effect || t.Key != "" && t.Key != taint.Key {
		return false
	}
	return t.Operator == corev1.TolerationOpExists || t.Key != "" && t.Value == taint.Value
}
