package scheduler

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
	"shoal/master/scheduler/placement"
)

// After Nodes have come (back), pods are moved until their groups are spread well and no Node is crowded, if Config.Rebalance says so: one at a time,
// and each is marked as one whose machine is gone would be, so that its controller makes another first and deletes it when that is ready. Nothing is
// remembered: the mark is on the pod, for the next Master, too.

const (
	// quiet is how long the Nodes must have stayed as they are: machines that come back do so together.
	quiet = 10 * time.Second
	// moveMost is how long a replacement may take before the move is called off.
	moveMost = 2 * time.Minute
	// moveAgain is how long nothing is moved after that: what stood in the way may stay for long.
	moveAgain = 10 * time.Minute
	// reasonRebalance is that of the mark.
	reasonRebalance = "Rebalanced"
)

// keepsPod is an annotation that says, with "false", that a pod must not be moved to save machines; here, not to spread it either.
const keepsPod = "cluster-autoscaler.kubernetes.io/safe-to-evict"

// unsettle has the cluster looked at once its Nodes have been quiet for a while. Caller holds mu.
func (s *Scheduler) unsettle() {
	if s.cfg.Rebalance {
		s.look = s.cfg.Now().Add(quiet)
		s.poke()
	}
}

// rebalance moves a pod if that is due and helps. It returns when to come back; zero when nothing is due. Only Run calls it.
func (s *Scheduler) rebalance(ctx context.Context) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.cfg.Now()
	switch wait := s.look.Sub(now); {
	case s.look.IsZero():
		return 0
	case wait > 0:
		return wait
	case s.queue.busy():
		return 0 // they need room first; the last that gets it wakes Run
	}
	if wait := s.moving(ctx, now); wait > 0 {
		s.look = now.Add(wait)
		return wait
	}
	budgets := placement.Budgets(s.cfg.Budgets.List("", nil))
	m := s.picture.Improve(func(p *placement.Pod) bool {
		o, ok := s.cfg.Pods.Get(p.Key)
		return ok && o.UID == p.UID && movable(o, budgets)
	})
	if m == nil {
		s.look = time.Time{}
		return 0
	}
	if p, ok := s.cfg.Pods.Get(m.Pod.Key); ok {
		s.aside.Go(func() { s.move(ctx, p, m) })
	}
	s.look = now.Add(moveMost) // its going brings us back before
	return moveMost
}

// moving returns how long the move that is under way may still take, and calls off those that have taken too long. Caller holds mu.
func (s *Scheduler) moving(ctx context.Context, now time.Time) (left time.Duration) {
	for _, p := range s.cfg.Pods.List("", nil) {
		c := api.PodCondition(p, corev1.DisruptionTarget)
		if c == nil || c.Reason != reasonRebalance {
			continue
		}
		wait := c.LastTransitionTime.Add(moveMost).Sub(now)
		if wait <= 0 && p.DeletionTimestamp == nil {
			s.aside.Go(func() { s.callOff(ctx, p) })
			wait = moveAgain
		}
		left = max(left, wait)
	}
	return left
}

// movable reports whether a pod may be moved: another can be made in its place, nobody would miss what it holds, and no budget keeps it.
func movable(p *corev1.Pod, budgets []placement.Budget) bool {
	ref := metav1.GetControllerOfNoCopy(p)
	if ref == nil || ref.Kind != api.ReplicationControllers.Kind && ref.Kind != api.ReplicaSets.Kind {
		return false
	}
	if !api.IsPodReady(p) || p.DeletionTimestamp != nil || api.IsPodDisrupted(p) || p.Annotations[keepsPod] == "false" {
		return false
	}
	if slices.ContainsFunc(p.Spec.Volumes, func(v corev1.Volume) bool {
		return v.EmptyDir != nil || v.HostPath != nil || v.PersistentVolumeClaim != nil || v.Ephemeral != nil
	}) {
		return false
	}
	return !slices.ContainsFunc(budgets, func(b placement.Budget) bool {
		return b.Namespace == p.Namespace && b.Allowed <= 0 && b.Selects(p.Labels)
	})
}

// move marks a pod, and says why.
func (s *Scheduler) move(ctx context.Context, p *corev1.Pod, m *placement.Move) {
	why := fmt.Sprintf("to be replaced by a pod on %s: %s", m.To.Name, m.Why)
	marked := p.DeepCopy()
	api.SetPodCondition(marked, corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: reasonRebalance, Message: why}, s.cfg.Now())
	if !s.mark(ctx, marked) {
		return
	}
	s.cfg.Events.EventFrom(Name, p, corev1.EventTypeNormal, "Rebalancing", "Moving pod %s from %s %s", p.Name, m.From.Name, why)
}

// callOff takes the mark off a pod that nobody has replaced.
func (s *Scheduler) callOff(ctx context.Context, p *corev1.Pod) {
	free := p.DeepCopy()
	free.Status.Conditions = slices.DeleteFunc(free.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.DisruptionTarget })
	if s.mark(ctx, free) {
		s.cfg.Events.EventFrom(Name, p, corev1.EventTypeWarning, "RebalancingFailed", "No replacement was ready after %v: pod %s stays on %s", moveMost, p.Name, p.Spec.NodeName)
	}
}

// mark writes a pod's status and reports whether it could.
func (s *Scheduler) mark(ctx context.Context, p *corev1.Pod) bool {
	_, err := s.cfg.Client.Update(ctx, api.Pods, p, client.UpdateOptions{Subresource: "status"})
	if err == nil {
		return true
	}
	if ctx.Err() == nil && !apierrors.IsNotFound(err) {
		s.cfg.Log.Debug("rebalance", "pod", p.Name, "ns", p.Namespace, "err", err)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.look = s.cfg.Now().Add(time.Second) // somebody else wrote it
		s.poke()
	}
	return false
}

// moveEnded brings rebalance back when the pod of a move has gone. Caller holds mu.
func (s *Scheduler) moveEnded(p *corev1.Pod) {
	if c := api.PodCondition(p, corev1.DisruptionTarget); s.cfg.Rebalance && c != nil && c.Reason == reasonRebalance {
		s.look = s.cfg.Now()
		s.poke()
	}
}
