package scheduler

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/api"
	"shoal/master/scheduler/placement"
)

// picture is the cluster as the scheduler sees it: the store's state and its own decisions that are on the way there.
// Not safe for concurrent use.
type picture struct {
	nodes map[string]*placement.Node
	order []*placement.Node
	where map[types.UID]string // the node of every pod that has a share of one
}

func newPicture() *picture {
	return &picture{nodes: map[string]*placement.Node{}, where: map[types.UID]string{}}
}

func (p *picture) node(name string) *placement.Node {
	n, ok := p.nodes[name]
	if !ok {
		n = placement.NewNode(name)
		p.nodes[name] = n
		p.order = append(p.order, n)
	}
	return n
}

// add gives the pod a share of the node, and of no other.
func (p *picture) add(node string, info *placement.Pod) {
	if old, ok := p.where[info.UID]; ok && old != node {
		p.remove(info.UID)
	}
	p.where[info.UID] = node
	p.node(node).Add(info)
}

// remove takes the pod's share back and returns the node it was on, or nil.
func (p *picture) remove(uid types.UID) *placement.Node {
	name, ok := p.where[uid]
	if !ok {
		return nil
	}
	delete(p.where, uid)
	n := p.nodes[name]
	n.Remove(uid)
	p.drop(n)
	return n
}

// drop forgets a node that is no more and holds nothing.
func (p *picture) drop(n *placement.Node) {
	if n.Exists() || !n.Empty() {
		return
	}
	delete(p.nodes, n.Name)
	for i := range p.order {
		if p.order[i] == n {
			p.order = append(p.order[:i], p.order[i+1:]...)
			return
		}
	}
}

func (s *Scheduler) nodeChanged(old, o *corev1.Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o == nil {
		n := s.picture.node(old.Name)
		n.Set(nil)
		s.picture.drop(n)
		return
	}
	if old != nil && sameForPlacement(old, o) {
		return
	}
	n := s.picture.node(o.Name)
	n.Set(o)
	s.freed(n)
}

// sameForPlacement reports whether no pod can see a difference: most writes to a Node are its peer's status.
func sameForPlacement(a, b *corev1.Node) bool {
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
	s.queue.wake(s.cfg.Now(), func(p *placement.Pod) bool { return placement.Objections(p, n) == nil })
	s.poke()
}

func (s *Scheduler) podChanged(old, p *corev1.Pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case p == nil:
		s.left(old)
	case api.IsPodTerminal(p):
		s.left(p)
	case p.Spec.NodeName != "":
		s.queue.remove(p.UID)
		if s.picture.where[p.UID] == p.Spec.NodeName && old != nil && old.Generation == p.Generation {
			return
		}
		s.picture.add(p.Spec.NodeName, placement.NewPod(p, s.group(p)))
	case p.DeletionTimestamp != nil:
		s.left(p)
	case (p.Spec.SchedulerName == "" || p.Spec.SchedulerName == Name) && len(p.Spec.SchedulingGates) == 0:
		s.pending(old, p)
	}
}

// left forgets a pod that needs no node any more. Caller holds mu.
func (s *Scheduler) left(p *corev1.Pod) {
	s.queue.remove(p.UID)
	if n := s.picture.remove(p.UID); n != nil {
		s.freed(n)
	}
}

// pending queues a pod without a node. Caller holds mu.
func (s *Scheduler) pending(old, p *corev1.Pod) {
	if it, ok := s.queue.items[p.UID]; ok && old != nil && old.Generation == p.Generation {
		s.queue.put(p, it.info, false) // only its status or metadata changed, often by ourselves
		return
	}
	s.queue.put(p, placement.NewPod(p, s.group(p)), true)
	s.poke()
}

// group names those that p should be spread over nodes with: the others of its controller, or else of its Service.
func (s *Scheduler) group(p *corev1.Pod) string {
	if ref := metav1.GetControllerOfNoCopy(p); ref != nil {
		return string(ref.UID)
	}
	first := ""
	for _, svc := range s.cfg.Services.List(p.Namespace, nil) {
		if len(svc.Spec.Selector) > 0 && api.Selects(svc.Spec.Selector, p.Labels) && (first == "" || svc.Name < first) {
			first = svc.Name
		}
	}
	if first == "" {
		return ""
	}
	return p.Namespace + "/" + first
}
