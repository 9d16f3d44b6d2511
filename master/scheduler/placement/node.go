package placement

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Node is a Node with what is taken of it. Only its Cluster changes it.
type Node struct {
	Name string

	object      *corev1.Node // nil while only pods bound to it are known
	zone        string
	taints      []corev1.Taint
	tainted     [][]string // what each taint has the node object with
	allocatable Resources
	maxPods     int

	pods   map[types.UID]*Pod
	guests map[types.UID]*Pod // those for which others were told to go
	images map[string]int64   // bytes of each image that is there
	used   Resources
	scored Resources
	ports  map[hostPort]int
	groups map[string]int
}

// newNode returns a node of which only the name is known: nothing fits there until it is set.
func newNode(name string) *Node {
	return &Node{Name: name, pods: map[types.UID]*Pod{}, ports: map[hostPort]int{}, groups: map[string]int{}}
}

// set makes o the node's object; nil means that there is none (any more).
func (n *Node) set(o *corev1.Node) {
	n.object = o
	if o == nil {
		return
	}
	n.zone = o.Labels[corev1.LabelTopologyZone]
	n.allocatable = resourcesOf(o.Status.Allocatable)
	pods := o.Status.Allocatable[corev1.ResourcePods]
	n.maxPods = int(pods.Value())
	n.images = imagesOf(o)
	n.taints = slices.Clone(o.Spec.Taints)
	if !ready(o) && !slices.ContainsFunc(n.taints, func(t corev1.Taint) bool {
		return t.Key == corev1.TaintNodeNotReady || t.Key == corev1.TaintNodeUnreachable
	}) {
		// The taint that says so may be on its way; a new Node must not be used before it is there.
		n.taints = append(n.taints, corev1.Taint{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule})
	}
	n.tainted = nil
	for _, t := range n.taints {
		n.tainted = append(n.tainted, []string{fmt.Sprintf("node(s) had untolerated taint {%s: %s}", t.Key, t.Value)})
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

// gone reports whether the node has no object and holds nothing.
func (n *Node) gone() bool { return n.object == nil && len(n.pods)+len(n.guests) == 0 }

// domain is the node's value of a topology key.
func (n *Node) domain(key string) (string, bool) {
	if n.object == nil {
		return "", false
	}
	v, ok := n.object.Labels[key]
	return v, ok
}

func (n *Node) add(p *Pod) {
	n.pods[p.UID] = p
	n.count(p, 1)
}

func (n *Node) remove(p *Pod) {
	delete(n.pods, p.UID)
	n.count(p, -1)
}

func (n *Node) count(p *Pod, sign int) {
	n.used.add(p.requests, int64(sign))
	n.scored.add(p.scored, int64(sign))
	for _, hp := range p.ports {
		if n.ports[hp] += sign; n.ports[hp] == 0 {
			delete(n.ports, hp)
		}
	}
	if p.Group != "" && !p.leaving {
		if n.groups[p.Group] += sign; n.groups[p.Group] == 0 {
			delete(n.groups, p.Group)
		}
	}
}
