// Package placement decides where a pod can run and where it runs best. It is pure: it reads what it is given, does no
// I/O, keeps no time and does not log. Used by the scheduler only. Its invariant: the used amounts of a Node are the
// sums over the pods added to it and not removed.
package placement

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/api"
	"shoal/internal/client"
)

// Resources are amounts: millicores, bytes, and counts of anything else.
type Resources struct {
	MilliCPU, Memory, Ephemeral int64
	Scalars                     map[corev1.ResourceName]int64
}

func resourcesOf(l corev1.ResourceList) Resources {
	var r Resources
	for name, q := range l {
		switch name {
		case corev1.ResourceCPU:
			r.MilliCPU = q.MilliValue()
		case corev1.ResourceMemory:
			r.Memory = q.Value()
		case corev1.ResourceEphemeralStorage:
			r.Ephemeral = q.Value()
		case corev1.ResourcePods:
		default:
			if r.Scalars == nil {
				r.Scalars = map[corev1.ResourceName]int64{}
			}
			r.Scalars[name] = q.Value()
		}
	}
	return r
}

func (r *Resources) add(o Resources, sign int64) {
	r.MilliCPU += sign * o.MilliCPU
	r.Memory += sign * o.Memory
	r.Ephemeral += sign * o.Ephemeral
	for name, n := range o.Scalars {
		if r.Scalars == nil {
			r.Scalars = map[corev1.ResourceName]int64{}
		}
		r.Scalars[name] += sign * n
	}
}

// A pod that asks for nothing is scored as if it asked for this, as in Kubernetes: else any number fits "equally well".
const (
	usualMilliCPU = 100
	usualMemory   = 200 << 20
)

// Pod is what placement needs of a pod, worked out once. It must not be changed.
type Pod struct {
	client.Key
	UID types.UID
	// Group is equal for pods that should not share a node: those of one controller or Service. Empty means none.
	Group string
	// Priority decides who goes first, and who has to go.
	Priority int32
	// Claims are the claims that its volumes are of, if any.
	Claims []string

	labels      labels.Set
	since       time.Time // when it was made
	ending      bool      // it is marked for deletion
	leaving     bool      // that, or another is about to take its place: its group is spread without it
	requests    Resources
	scored      Resources // requests, with the usual amounts in place of none
	ports       []hostPort
	nodeName    string
	tolerations []corev1.Toleration
	required    labels.Selector // spec.nodeSelector; nil selects all
	terms       []nodeTerm      // of which one must match; nil selects all
	pinned      []string        // the only nodes that terms can match; nil means that they do not say
	preferred   []weightedTerm
	neighbours  neighbours
	spread      []constraint
	images      []string
	volumes     *Volumes // nil: it has no claims, or they do not matter
}

type hostPort struct {
	ip       string
	protocol corev1.Protocol
	port     int32
}

type nodeTerm struct {
	labels labels.Selector
	names  []labels.Requirement // over metadata.name
}

type weightedTerm struct {
	nodeTerm
	weight int64
}

// NewPod works out p.
func NewPod(p *corev1.Pod, group string) *Pod {
	out := &Pod{
		Key: client.KeyOf(p), UID: p.UID, Group: group, labels: p.Labels, since: p.CreationTimestamp.Time, ending: p.DeletionTimestamp != nil,
		leaving:  p.DeletionTimestamp != nil || api.IsPodDisrupted(p),
		requests: resourcesOf(api.PodReserves(p)), nodeName: p.Spec.NodeName, tolerations: p.Spec.Tolerations,
		Claims: api.ClaimsOf(p),
	}
	if p.Spec.Priority != nil {
		out.Priority = *p.Spec.Priority
	}
	out.scored = out.requests
	if out.scored.MilliCPU == 0 {
		out.scored.MilliCPU = usualMilliCPU
	}
	if out.scored.Memory == 0 {
		out.scored.Memory = usualMemory
	}
	for i := range p.Spec.Containers {
		out.addPorts(&p.Spec.Containers[i])
		out.images = append(out.images, imageName(p.Spec.Containers[i].Image))
	}
	for i := range p.Spec.InitContainers {
		if api.IsSidecar(&p.Spec.InitContainers[i]) {
			out.addPorts(&p.Spec.InitContainers[i])
		}
	}
	if len(p.Spec.NodeSelector) > 0 {
		out.required = labels.SelectorFromSet(p.Spec.NodeSelector)
	}
	if a := p.Spec.Affinity; a != nil && a.NodeAffinity != nil {
		if r := a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution; r != nil {
			out.terms = []nodeTerm{} // required, and none that can match: no node does
			for i := range r.NodeSelectorTerms {
				if t, ok := compileTerm(&r.NodeSelectorTerms[i]); ok {
					out.terms = append(out.terms, t)
				}
			}
			out.pinned = onlyNames(r.NodeSelectorTerms)
		}
		for i := range a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution {
			p := &a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution[i]
			if t, ok := compileTerm(&p.Preference); ok {
				out.preferred = append(out.preferred, weightedTerm{t, int64(p.Weight)})
			}
		}
	}
	out.neighbours = neighboursOf(p)
	out.spread = constraintsOf(p)
	return out
}

// onlyNames returns the nodes that terms name, if every one of them names some, as those of a DaemonSet's pods do.
func onlyNames(terms []corev1.NodeSelectorTerm) []string {
	var names []string
	for i := range terms {
		var these []string
		for _, e := range terms[i].MatchFields {
			if e.Key == "metadata.name" && e.Operator == corev1.NodeSelectorOpIn {
				these = e.Values
			}
		}
		if these == nil {
			return nil
		}
		names = append(names, these...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// fits reports whether the node's labels and name are what the pod's nodeSelector and node affinity want.
func (p *Pod) fits(n *corev1.Node) bool {
	if p.required != nil && !p.required.Matches(labels.Set(n.Labels)) {
		return false
	}
	return p.terms == nil || slices.ContainsFunc(p.terms, func(t nodeTerm) bool { return t.matches(n) })
}

func (p *Pod) addPorts(c *corev1.Container) {
	for _, cp := range c.Ports {
		if cp.HostPort == 0 {
			continue
		}
		hp := hostPort{cp.HostIP, cp.Protocol, cp.HostPort}
		if hp.ip == "0.0.0.0" || hp.ip == "::" {
			hp.ip = ""
		}
		if hp.protocol == "" {
			hp.protocol = corev1.ProtocolTCP
		}
		p.ports = append(p.ports, hp)
	}
}

// operator translates the operators that differ in spelling only; an unknown one makes no requirement.
func operator(o corev1.NodeSelectorOperator) selection.Operator {
	switch o {
	case corev1.NodeSelectorOpIn:
		return selection.In
	case corev1.NodeSelectorOpNotIn:
		return selection.NotIn
	case corev1.NodeSelectorOpExists:
		return selection.Exists
	case corev1.NodeSelectorOpDoesNotExist:
		return selection.DoesNotExist
	case corev1.NodeSelectorOpGt:
		return selection.GreaterThan
	case corev1.NodeSelectorOpLt:
		return selection.LessThan
	}
	return ""
}

// compileTerm returns false for a term that matches nothing: an empty one, or one that makes no sense.
func compileTerm(t *corev1.NodeSelectorTerm) (nodeTerm, bool) {
	if len(t.MatchExpressions)+len(t.MatchFields) == 0 {
		return nodeTerm{}, false
	}
	var out nodeTerm
	out.labels = labels.NewSelector()
	for _, e := range t.MatchExpressions {
		r, err := labels.NewRequirement(e.Key, operator(e.Operator), e.Values)
		if err != nil {
			return nodeTerm{}, false
		}
		out.labels = out.labels.Add(*r)
	}
	for _, e := range t.MatchFields {
		r, err := labels.NewRequirement("metadata.name", operator(e.Operator), e.Values)
		if err != nil || e.Key != "metadata.name" {
			return nodeTerm{}, false
		}
		out.names = append(out.names, *r)
	}
	return out, true
}

func (t *nodeTerm) matches(n *corev1.Node) bool {
	for _, r := range t.names {
		if !r.Matches(labels.Set{"metadata.name": n.Name}) {
			return false
		}
	}
	return t.labels.Matches(labels.Set(n.Labels))
}
