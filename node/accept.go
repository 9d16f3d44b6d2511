package node

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/api"
)

// accept takes a pod on, or refuses it for good when it does not fit.
func (w *worker) accept(p *corev1.Pod) {
	w.accepted = true
	if p.Status.StartTime != nil {
		w.mem.accepted = p.Status.StartTime.Time // taken on in an earlier life of which no record is left
	} else {
		w.mem.accepted = w.n.cfg.Now()
	}
	if api.IsPodTerminal(p) {
		w.final = p.Status.DeepCopy()
		return
	}
	if w.mem.held {
		w.n.pods.claim(w.uid, api.PodRequests(p))
		return
	}
	reason, message := reasonEvicted, w.n.tooLittleFor(p)
	if message == "" {
		reason, message = w.n.unarmoured(p)
	}
	if message == "" {
		reason, message = w.n.pods.admit(p)
	}
	if reason != "" {
		w.final = &corev1.PodStatus{Phase: corev1.PodFailed, Reason: reason, Message: message, QOSClass: api.QOSClass(p), ObservedGeneration: p.Generation}
		w.event(p, corev1.EventTypeWarning, reason, "%s", message)
	}
}

// claim notes what a pod takes of the machine.
func (s *pods) claim(uid types.UID, requests corev1.ResourceList) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.claims[uid] = requests
}

func (s *pods) unclaim(uid types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.claims, uid)
	s.wakeDeferredLocked()
}

// admit claims what a new pod requests, or says why it cannot have it.
func (s *pods) admit(p *corev1.Pod) (reason, message string) {
	uid, requests := p.UID, api.PodRequests(p)
	have := s.n.allocatable()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.claims, uid)
	for other := range s.claims {
		if w := s.workers[other]; w != nil && takesPorts(p, w.wanted()) {
			return "NodePorts", "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
		}
	}
	if most := have[corev1.ResourcePods]; !most.IsZero() && int64(len(s.claims)) >= most.Value() {
		return "OutOfpods", fmt.Sprintf("Pod was rejected: Node didn't have enough resource: pods, requested: 1, used: %d, capacity: %d", len(s.claims), most.Value())
	}
	for name, want := range requests {
		if want.Sign() <= 0 {
			continue
		}
		var used resource.Quantity
		for _, claim := range s.claims {
			used.Add(claim[name])
		}
		limit, sum := have[name], used.DeepCopy()
		if sum.Add(want); sum.Cmp(limit) > 0 {
			return "OutOf" + string(name), fmt.Sprintf("Pod was rejected: Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d",
				name, amount(name, want), amount(name, used), amount(name, limit))
		}
	}
	s.claims[uid] = requests
	return "", ""
}

// amount is a quantity in the unit that people read: thousandths of a CPU, else whole ones.
func amount(name corev1.ResourceName, q resource.Quantity) int64 {
	if name == corev1.ResourceCPU {
		return q.MilliValue()
	}
	return q.Value()
}
