package scheduler

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/master/scheduler/placement"
)

// preemption is the node that pods have to leave for another, and those pods.
type preemption struct {
	node    string
	victims []*corev1.Pod
}

// nominated is the node that others leave, or empty.
func (p *preemption) nominated() string {
	if p == nil {
		return ""
	}
	return p.node
}

// preempt decides who has to go for a pod that fits nowhere, if that would help. From then on the room that this makes
// is kept for it. Caller holds mu.
func (s *Scheduler) preempt(it *item) *preemption {
	if policy := it.pod.Spec.PreemptionPolicy; policy != nil && *policy == corev1.PreemptNever {
		return nil
	}
	if node := s.picture.Leaving(it.info); node != "" {
		return &preemption{node: node} // told to go, and not gone yet
	}
	s.picture.Unwant(it.info.UID)
	found := s.picture.Preempt(it.info, placement.Budgets(s.cfg.Budgets.List("", nil)))
	if found == nil {
		return nil
	}
	s.picture.Want(it.info, found.Node.Name)
	// Those of less priority that waited for the same room have to look for another.
	for _, uid := range s.picture.Outbid(it.info, found.Node) {
		if lesser, ok := s.queue.items[uid]; ok && lesser.state == unschedulable {
			s.queue.set(lesser, backingOff)
		}
	}
	out := &preemption{node: found.Node.Name}
	for _, v := range found.Victims {
		if p, ok := s.cfg.Pods.Get(v.Key); ok && p.UID == v.UID {
			out.victims = append(out.victims, p)
		}
	}
	return out
}

// evict tells the victims to go: each is marked, so that it counts as disrupted and not as failed, and then deleted.
func (s *Scheduler) evict(ctx context.Context, d *decision) {
	if d.preempt == nil {
		return
	}
	for _, v := range d.preempt.victims {
		if err := s.evictOne(ctx, d.pod, v); err != nil {
			if ctx.Err() != nil {
				return
			}
			s.cfg.Log.Debug("preempt", "pod", v.Name, "ns", v.Namespace, "for", d.pod.Name, "err", err)
			continue
		}
		s.cfg.Events.EventFrom(Name, v, corev1.EventTypeNormal, "Preempted", "Preempted by pod %s on node %s", d.pod.UID, d.preempt.node)
	}
}

func (s *Scheduler) evictOne(ctx context.Context, by, victim *corev1.Pod) error {
	p := victim.DeepCopy()
	api.SetPodCondition(p, corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonPreemptionByScheduler,
		Message: Name + ": preempting to accommodate a higher priority pod", ObservedGeneration: p.Generation,
	}, s.cfg.Now())
	_, err := s.cfg.Client.Update(ctx, api.Pods, p, client.UpdateOptions{Subresource: "status"})
	// A conflict means that its peer wrote at the same time. The mark is for those who count; to go it has to anyhow.
	if err == nil || apierrors.IsConflict(err) {
		_, err = s.cfg.Client.Delete(ctx, api.Pods, client.KeyOf(victim), client.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &victim.UID}})
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("preempt: %w", err)
	}
	return nil
}
