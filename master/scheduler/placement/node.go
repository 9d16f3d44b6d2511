package placement

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Node is a Node with what is taken of it. Not safe for concurrent use.
type Node struct {
	Name string

	object      *corev1.Node // nil while only pods bound to it are known
	zone        string
	taints      []corev1.Taint
	allocatable Resources
	maxPods     int

	pods   map[types.UID]*Pod
	used   Resources
	scored Resources
	ports  map[hostPort]int
	groups map[string]int
}

// NewNode returns a node of which only the name is known: nothing fits there until Set.
func NewNode(name string) *Node {
	return &Node{Name: name, pods: map[types.UID]*Pod{}, ports: map[hostPort]int{}, groups: map[string]int{}}
}

// Set makes o the node's object; nil means that there is none (any more).
func (n *Node) Set(o *corev1.Node) {
	n.object = o
	if o == nil {
		return
	}
	n.zone = o.Labels[corev1.LabelTopologyZone]
	n.allocatable = resourcesOf(o.Status.Allocatable)
	pods := o.Status.Allocatable[corev1.ResourcePods]
	n.maxPods = int(pods.Value())
	n.taints = slices.Clone(o.Spec.Taints)
	if !ready(o) && !slices.ContainsFunc(n.taints, func(t corev1.Taint) bool {
		return t.Key == corev1.TaintNodeNotReady || t.Key == corev1.TaintNodeUnreachable
	}) {
		// The taint that says so may be on its way; a new Node must not be used before it is there.
		n.taints = append(n.taints, corev1.Taint{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule})
	}
}

func ready(o *corev1.Node) bool {
	for _, c := range o.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// Exists reports whether the node has an object.
func (n *Node) Exists() bool { return n.object != nil }

// Empty reports whether no pod is on the node.
func (n *Node) Empty() bool { return len(n.pods) == 0 }

// Add takes p's share of the node, in place of what a pod of the same UID had.
func (n *Node) Add(p *Pod) {
	n.Remove(p.UID)
	n.pods[p.UID] = p
	n.count(p, 1)
}

// Remove gives back the share of the pod, if it has one.
func (n *Node) Remove(uid types.UID) {
	if p, ok := n.pods[uid]; ok {
		delete(n.pods, uid)
		n.count(p, -1)
	}
}

// Has reports whether the pod has a share of the node.
func (n *Node) Has(uid types.UID) bool {
	_, ok := n.pods[uid]
	return ok
}

func (n *Node) count(p *Pod, sign int) {
	n.used.add(p.requests, int64(sign))
	n.scored.add(p.scored, int64(sign))
	for _, hp := range p.ports {
		if n.ports[hp] += sign; n.ports[hp] == 0 {
			delete(n.ports, hp)
		}
	}
	if p.Group != "" {
		if n.groups[p.Group] += sign; n.groups[p.Group] == 0 {
			delete(n.groups, p.Group)
		}
	}
}
