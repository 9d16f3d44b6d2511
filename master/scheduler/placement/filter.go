package placement

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// filters are asked in order, and the first that objects explains why. Each returns nil when the node will do. Cheap
// ones and those that usually object come first.
var filters = [...]func(*Pod, *Node) []string{unschedulable, nodeName, taints, affinity, ports, fit}

// Objections returns why p cannot run on n, in the words of Kubernetes; nil means it can.
func Objections(p *Pod, n *Node) []string {
	if n.object == nil {
		return []string{"node(s) did not exist"}
	}
	for _, f := range filters {
		if why := f(p, n); why != nil {
			return why
		}
	}
	return nil
}

func unschedulable(p *Pod, n *Node) []string {
	if !n.object.Spec.Unschedulable {
		return nil
	}
	if tolerated(p, corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}) {
		return nil
	}
	return []string{"node(s) were unschedulable"}
}

func nodeName(p *Pod, n *Node) []string {
	if p.nodeName == "" || p.nodeName == n.Name {
		return nil
	}
	return []string{"node(s) didn't match the requested node name"}
}

func taints(p *Pod, n *Node) []string {
	for _, t := range n.taints {
		if t.Effect != corev1.TaintEffectPreferNoSchedule && !tolerated(p, t) {
			return []string{fmt.Sprintf("node(s) had untolerated taint {%s: %s}", t.Key, t.Value)}
		}
	}
	return nil
}

func tolerated(p *Pod, taint corev1.Taint) bool {
	for _, t := range p.tolerations {
		if t.Effect != "" && t.Effect != taint.Effect || t.Key != "" && t.Key != taint.Key {
			continue
		}
		if t.Operator == corev1.TolerationOpExists || t.Key != "" && t.Value == taint.Value {
			return true
		}
	}
	return false
}

func affinity(p *Pod, n *Node) []string {
	if p.required == nil && p.terms == nil {
		return nil
	}
	matches := p.required == nil || p.required.Matches(nodeLabels(n))
	if matches && p.terms != nil {
		matches = slices.ContainsFunc(p.terms, func(t nodeTerm) bool { return t.matches(n.object) })
	}
	if matches {
		return nil
	}
	return []string{"node(s) didn't match Pod's node affinity/selector"}
}

func ports(p *Pod, n *Node) []string {
	for _, want := range p.ports {
		if n.ports[want] > 0 {
			return []string{"node(s) didn't have free ports for the requested pod ports"}
		}
		for have := range n.ports {
			if have.port == want.port && have.protocol == want.protocol && (have.ip == "" || want.ip == "") {
				return []string{"node(s) didn't have free ports for the requested pod ports"}
			}
		}
	}
	return nil
}

func fit(p *Pod, n *Node) []string {
	var why []string
	if len(n.pods)+1 > n.maxPods {
		why = append(why, "Too many pods")
	}
	short := func(name corev1.ResourceName, want, used, all int64) {
		if want > 0 && want > all-used {
			why = append(why, "Insufficient "+string(name))
		}
	}
	short(corev1.ResourceCPU, p.requests.MilliCPU, n.used.MilliCPU, n.allocatable.MilliCPU)
	short(corev1.ResourceMemory, p.requests.Memory, n.used.Memory, n.allocatable.Memory)
	short(corev1.ResourceEphemeralStorage, p.requests.Ephemeral, n.used.Ephemeral, n.allocatable.Ephemeral)
	for name, want := range p.requests.Scalars {
		short(name, want, n.used.Scalars[name], n.allocatable.Scalars[name])
	}
	return why
}

// Failure says why a pod fits nowhere.
type Failure struct {
	Nodes   int
	Reasons map[string]int // nodes an objection was raised for
}

// Message is the failure in one sentence, like Kubernetes says it.
func (f *Failure) Message() string {
	if f.Nodes == 0 {
		return "no nodes available to schedule pods"
	}
	parts := make([]string, 0, len(f.Reasons))
	for _, reason := range slices.Sorted(maps.Keys(f.Reasons)) {
		parts = append(parts, fmt.Sprintf("%d %s", f.Reasons[reason], reason))
	}
	slices.Sort(parts)
	return fmt.Sprintf("0/%d nodes are available: %s.", f.Nodes, strings.Join(parts, ", "))
}
