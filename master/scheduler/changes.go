package scheduler

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/api"
	"shoal/master/scheduler/placement"
)

// What follows keeps the picture: the cluster as the store has it, with the decisions that are on their way there.

func (s *Scheduler) nodeChanged(old, o *corev1.Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o == nil {
		s.picture.RemoveNode(old.Name)
		return
	}
	if old != nil && sameForPlacement(old, o) {
		return
	}
	n := s.picture.SetNode(o)
	if old == nil || !sameButImages(old, o) {
		s.unsettle()
	}
	s.freed(n)
	// A domain may be new, or one may not count any more.
	s.wakeUp(s.queue.picky, func(*placement.Pod) bool { return true })
}

func (s *Scheduler) namespaceChanged(old, o *corev1.Namespace) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case o == nil:
		s.picture.SetNamespace(old.Name, nil)
	case old == nil || !maps.Equal(old.Labels, o.Labels):
		s.picture.SetNamespace(o.Name, maps.Clone(o.Labels))
	default:
		return
	}
	s.wakeUp(s.queue.picky, func(*placement.Pod) bool { return true })
}

// sameForPlacement reports whether no pod can see a difference: most writes to a Node are its peer's status.
func sameForPlacement(a, b *corev1.Node) bool {
	return sameButImages(a, b) && equality.Semantic.DeepEqual(a.Status.Images, b.Status.Images)
}

func sameButImages(a, b *corev1.Node) bool {
	return a.UID == b.UID && equality.Semantic.DeepEqual(a.Spec, b.Spec) && equality.Semantic.DeepEqual(a.Labels, b.Labels) &&
		equality.Semantic.DeepEqual(a.Status.Allocatable, b.Status.Allocatable) && readiness(a) == readiness(b)
}

func readiness(n *corev1.Node) corev1.ConditionStatus {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status
		}
	}
	return ""
}

// freed wakes the stuck pods that could run on n now. Caller holds mu.
func (s *Scheduler) freed(n *placement.Node) {
	s.wakeUp(s.queue.stuck, func(p *placement.Pod) bool { return placement.Objections(p, n) == nil })
}

// moved wakes the stuck pods to which it matters that one came or went. Caller holds mu.
func (s *Scheduler) moved(info *placement.Pod) {
	if len(s.queue.picky) > 0 {
		s.wakeUp(s.queue.picky, func(p *placement.Pod) bool { return s.picture.Concerns(p, info) })
	}
}

func (s *Scheduler) wakeUp(stuck map[types.UID]*item, fits func(*placement.Pod) bool) {
	s.queue.wake(s.cfg.Now(), stuck, fits)
	s.poke()
}

func (s *Scheduler) podChanged(old, p *corev1.Pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case p == nil:
		s.left(old)
		s.moveEnded(old)
	case api.IsPodTerminal(p):
		s.left(p)
	case p.Spec.NodeName != "":
		s.queue.remove(p.UID)
		if !s.look.IsZero() && !s.queue.busy() {
			s.poke()
		}
		s.picture.Unwant(p.UID)
		if s.picture.Where(p.UID) == p.Spec.NodeName && old != nil && old.Generation == p.Generation && maps.Equal(old.Labels, p.Labels) &&
			api.IsPodDisrupted(old) == api.IsPodDisrupted(p) {
			return
		}
		info := placement.NewPod(p, s.group(p))
		s.picture.Add(info, p.Spec.NodeName)
		s.moved(info)
	case p.DeletionTimestamp != nil:
		s.left(p)
	case (p.Spec.SchedulerName == "" || p.Spec.SchedulerName == Name) && len(p.Spec.SchedulingGates) == 0:
		s.pending(old, p)
	}
}

// left forgets a pod that needs no node any more. Caller holds mu.
func (s *Scheduler) left(p *corev1.Pod) {
	s.queue.remove(p.UID)
	if len(api.ClaimsOf(p)) > 0 {
		s.storage.changed.wake() // it waits for them no more
	}
	s.picture.Unwant(p.UID)
	if n, info := s.picture.Remove(p.UID); n != nil {
		s.freed(n)
		s.moved(info)
	}
}

// pending queues a pod without a node. Caller holds mu.
func (s *Scheduler) pending(old, p *corev1.Pod) {
	if it, ok := s.queue.items[p.UID]; ok && old != nil && old.Generation == p.Generation && maps.Equal(old.Labels, p.Labels) {
		s.queue.put(p, it.info, false) // only its status or metadata changed, often by ourselves
		return
	}
	info := placement.NewPod(p, s.group(p))
	s.queue.put(p, info, true)
	if n := p.Status.NominatedNodeName; n != "" && old == nil {
		s.picture.Want(info, n) // by the Master before
	}
	s.poke()
}

// group names those that p should be spread over nodes with.
func (s *Scheduler) group(p *corev1.Pod) string {
	if metav1.GetControllerOfNoCopy(p) != nil {
		return placement.GroupOf(p, nil)
	}
	return placement.GroupOf(p, s.cfg.Services.List(p.Namespace, nil))
}
